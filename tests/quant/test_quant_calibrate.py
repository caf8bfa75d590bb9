"""Ranges are those of the inputs, to the accuracy that is stated, and bad files are named."""

import json

import numpy as np
import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.calibrate import Recorder, load_ranges, save_ranges
from espnet_dq.whisper.forward import decode_hidden, encode


def test_a_range_is_the_largest_magnitude(tmp_path):
    """Of batches of very different sizes, with outliers."""
    random = np.random.default_rng(0)
    root = torch.nn.ModuleDict({"layer": torch.nn.Linear(8, 3)})
    batches = [random.standard_t(2, (1, 500, 8)) * size for size in (1e-3, 1, 40, 0.1, 1e-7)]
    batches = [batch.astype(np.float32) for batch in batches] + [np.zeros((1, 3, 8), np.float32)]
    with Recorder(root, ["layer.weight"]) as recorder:
        for batch in batches:
            root["layer"](torch.from_numpy(batch))
    largest = float(max(np.abs(batch).max() for batch in batches))
    save_ranges(tmp_path / "r.json", recorder, {"clips": 6})
    content = json.loads((tmp_path / "r.json").read_text())
    assert content == {"clips": 6, "layers": {"layer": {"range": largest, "rows": 2503}}}
    assert load_ranges(tmp_path / "r.json") == {"layer": largest}


def test_a_layer_without_a_range_is_named(tmp_path):
    root = torch.nn.ModuleDict({"layer": torch.nn.Linear(8, 3)})
    with Recorder(root, ["layer.weight"]) as recorder:
        root["layer"](torch.zeros(1, 2, 8))
    with pytest.raises(InputError, match=r"r\.json: layer: no range"):
        save_ranges(tmp_path / "r.json", recorder, {})
    assert not (tmp_path / "r.json").exists()


def test_ranges_are_the_inputs_own(toy, heard, tmp_path):
    model, grids = toy
    with torch.no_grad(), Recorder(model, grids) as recorder:
        audio = encode(model.encoder, heard[0])
        hidden = decode_hidden(model.decoder, heard[1], audio)
        decode_hidden(model.decoder, heard[1], 2 * audio)
    assert recorder.rows["decoder.token_embedding"] == 8
    assert recorder.rows["decoder.blocks.0.cross_attn.key"] == 100
    assert recorder.tops["decoder.blocks.0.cross_attn.key"] == float((2 * audio).abs().max())
    assert recorder.tops["decoder.token_embedding"] >= float(hidden.abs().max())
    assert "encoder.conv1" not in recorder.tops
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    save_ranges(tmp_path / "r.json", recorder, {"clips": 2})
    assert load_ranges(tmp_path / "r.json") == recorder.tops
    message = r"encoder\.blocks\.0\.attn\.query: .*not finite"
    with pytest.raises(InputError, match=message), Recorder(model, grids):
        encode(model.encoder, heard[0] * torch.nan)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("decoder.blocks.0.mlp.2"), r"range for decoder\.blocks\.0\.mlp\.2"),
        (lambda d: d.update({"decoder.x": {"range": 1}}), r"decoder\.x: the model has no such"),
        (lambda d: d["decoder.blocks.0.mlp.2"].update(range=float("nan")), r"mlp\.2: .*finite"),
        (lambda d: d["decoder.blocks.0.mlp.2"].update(range=1e39), r"mlp\.2: .*finite"),
        (lambda d: d["decoder.blocks.0.mlp.2"].update(range=0), r"mlp\.2: .*above 0"),
        (lambda d: d["decoder.blocks.0.mlp.2"].update(range="3"), r"mlp\.2: .*'3'"),
        (lambda d: d["decoder.blocks.0.mlp.2"].pop("range"), r"a file of activation ranges"),
    ],
)
def test_bad_ranges_are_named(spoil, message, toy, heard, tmp_path):
    model, grids = toy
    path = tmp_path / "ranges.json"
    with torch.no_grad(), Recorder(model, grids) as recorder:
        decode_hidden(model.decoder, heard[1], encode(model.encoder, heard[0]))
    save_ranges(path, recorder, {"clips": 1})
    content = json.loads(path.read_text())
    spoil(content["layers"])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"{path}: .*{message}"):
        prepare_activations(model, grids, "int8_static", path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="not a file of activation ranges"):
        load_ranges(path)
