import json

import pytest
import torch

from espnet_dq.bin.calibrate import main
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.prompted import PromptedClips
from espnet_dq.errors import InputError
from espnet_dq.quant.activations import prepare_activations
from espnet_dq.quant.prepare import candidates
from tests import toys


@pytest.fixture
def data(clips, tmp_path):
    """Kaldi folder of the real clips."""
    folder = KaldiDir()
    for path, language, text in clips:
        utt = path.stem
        folder.add(utt, path, text, utt, language)
    folder.save(tmp_path / "data")
    return tmp_path / "data"


def test_ranges_of_every_linear_layer(data, save_toy, make_toy, tmp_path, capsys):
    out = tmp_path / "ranges.json"
    arguments = ["--model", str(save_toy(seed=3)), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--clips", "2"]) == 0
    content, model = json.loads(out.read_text()), make_toy(seed=3)
    assert content["clips"] == 2
    linears = [n.removesuffix(".weight") for n in candidates(model.dims) if "conv" not in n]
    assert list(content["layers"]) == linears
    # 30 s each, whatever the length of the clip
    assert content["layers"]["encoder.blocks.0.attn.query"]["rows"] == 2 * 1500
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(linears) + 1 and printed[-1] == str(out)
    assert printed[0].startswith("encoder.blocks.0.attn.query: ") and "3000 rows" in printed[0]
    prepare_activations(model, candidates(model.dims), "int8_static", out)


@pytest.mark.parametrize("padding", ["zeros", "silence"])
def test_windows_are_filled_as_in_training(padding, data, make_toy, tmp_path):
    """Of an experiment, as it says: the first layer of the encoder reads what is in them."""
    model = make_toy(seed=3)
    quant = {"grid": "ggml_q8_0", "preset": "none"}
    toys.save_training(tmp_path / "exp", model, quant, padding=padding)
    out, layer = tmp_path / "ranges.json", "encoder.blocks.0.attn.query"
    given = ["--model", str(tmp_path / "exp"), "--data", str(data), "--out", str(out)]
    assert main([*given, "--clips", "1"]) == 0
    ((mel, _),) = PromptedClips(data, 1, model.dims, "full", padding)
    tops = []
    hook = model.encoder.blocks[0].attn.query.register_forward_pre_hook(
        lambda _, x: tops.append(float(x[0].abs().max()))
    )
    with torch.no_grad():
        model.encoder(mel)
    hook.remove()
    found = json.loads(out.read_text())["layers"][layer]["range"]
    assert found == pytest.approx(tops[0], rel=1e-5)


def test_mistakes_are_named(data, save_toy, tmp_path):
    model = str(save_toy(seed=3))
    with pytest.raises(InputError, match="clips: 0 is not a whole number"):
        main(["--model", model, "--data", str(data), "--out", str(tmp_path / "r"), "--clips", "0"])
    text = data / "text"
    text.write_text("".join(text.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError, match=r"text: no line for '.*' of wav\.scp"):
        main(["--model", model, "--data", str(data), "--out", str(tmp_path / "r")])
    assert not (tmp_path / "r").exists()
