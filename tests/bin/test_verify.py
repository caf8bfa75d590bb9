import json
import math

import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.export import main as export
from espnet_dq.bin.verify import main
from espnet_dq.errors import InputError
from espnet_dq.files import bytes_on_disk
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.report import NO_TENSORS, OPEN, float_kind
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, candidates
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights

EMBEDDING = "decoder.token_embedding.weight"
TOY = ModelDimensions(80, 50, 64, 2, 1, 51865, 16, 64, 2, 1)


@pytest.fixture
def made(tmp_path):
    """(int8 folder, the checkpoint it was converted from)."""
    torch.manual_seed(0)
    state = Whisper(TOY).state_dict()
    state["decoder.positional_embedding"].normal_()  # openai-whisper leaves it uninitialised
    for tensor in state.values():
        if tensor.dim() == 1:  # equal ones would be stored once
            tensor += 0.1 * torch.randn_like(tensor)
    save_pt(tmp_path / "toy.pt", Weights(TOY, state))
    out = ["--to", "ct2", "--out", str(tmp_path / "ct2"), "--grid", "ct2_int8"]
    assert convert(["--from", str(tmp_path / "toy.pt"), *out]) == 0
    return tmp_path / "ct2", tmp_path / "toy.pt"


def verify(folder, checkpoint, *more):
    return main([str(folder), "--against", str(checkpoint), "--grid", "ct2_int8", *more])


def relative_error(weight, grid):
    return float((get_grid(grid).fake(weight) - weight).double().norm() / weight.double().norm())


@pytest.mark.slow
def test_prints_each_tensor(made, tmp_path, capsys):
    folder, checkpoint = made
    capsys.readouterr()
    assert verify(folder, checkpoint, "--json", str(tmp_path / "v.json")) == 0
    lines = capsys.readouterr().out.splitlines()
    head = ["name", "shape", "grid", "bits", "bytes", "error", "integers", "scales", "kind"]
    assert lines[0].split() == head
    report = json.loads((tmp_path / "v.json").read_text())
    name, weight = "decoder/embeddings/weight", openai.load(checkpoint).state[EMBEDDING].float()
    error = relative_error(weight, "ct2_int8")
    assert 0.001 < error < 0.02
    (row,) = (row for row in report["rows"] if row["name"] == name)
    assert row["shape"] == [51865, 64] and row["error"] == pytest.approx(error, rel=1e-5)
    cells = [name, "51865x64", "ct2_int8", "8", "3319360", f"{row['error']:.5f}", "0", "0"]
    assert [*cells, "on", "a", "grid"] in map(str.split, lines)
    assert ["decoder/num_heads", "-", "int16", "16", "2", "-", "0", "0", "no", "weight"] in map(
        str.split, lines
    )
    assert report["mismatched"] == 0 and len(report["rows"]) == len(lines) - 6
    beside = [row["name"] for row in report["rows"] if row["kind"] in NO_TENSORS]
    assert report["tensors"] == len(report["rows"]) - len(beside)
    assert beside == ["types of floats", "revision", "config.json", "preprocessor_config.json",
                      "vocabulary.json", "tokenizer.json", "files", "as loaded",
                      "logits in CTranslate2"]  # fmt: skip
    assert lines[-1].endswith(" 0 mismatched")


@pytest.mark.slow
def test_totals_add_up(made, tmp_path, capsys):
    folder, checkpoint = made
    assert verify(folder, checkpoint, "--json", str(tmp_path / "v.json")) == 0
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "v.json").read_text())
    grids = assign_grids(TOY, "ct2_int8")
    on_grid = [weight_shapes(TOY)[name] for name in grids]
    assert report["grid_bytes"] == sum(math.prod(shape) + 4 * shape[0] for shape in on_grid)
    floats = sum(math.prod(s) for n, s in weight_shapes(TOY).items() if n not in grids)
    # The file has a bias of zeros for each key, three of them.
    assert report["float_bytes"] == 2 * (floats + 3 * 64)
    assert report["bytes_on_disk"] == bytes_on_disk(folder)
    assert report["bytes"] < report["bytes_on_disk"]
    quantized = sum(math.prod(s) for n, s in weight_shapes(TOY).items() if n.endswith(".weight"))
    total = sum(math.prod(s) for s in weight_shapes(TOY).values())
    assert report["paper_rule_bytes"] == 2 * total - quantized
    why = {row["name"]: row["kind"] for row in report["rows"]}
    assert why["decoder/layer_norm/gamma"] == why["encoder/layer_0/ffn/layer_norm/beta"]
    assert why["decoder/layer_norm/gamma"] == "LayerNorm"
    assert why["encoder/conv1/bias"] == why["decoder/layer_0/attention/linear_1/bias"] == "bias"
    assert why["encoder/position_encodings/encodings"] == "positional embedding"
    assert why["encoder/conv1/weight_scale"] == "scales of a grid"
    assert "although" not in said and "could be on a grid" not in said
    for text in ("2 positional embedding", f"{report['float_bytes']} bytes"):
        assert text in said
    assert f"(counted): {report['paper_rule_bytes']} bytes" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "form,grid",
    [("ct2", "ct2_int8"), ("ggml", "ggml_q8_0"), ("ggml", "ggml_q4_0"), ("onnx", "onnx_int8"),
     ("packed", "uniform3"), ("packed", "ggml_q5_0"), ("hf", "uniform4")],
)  # fmt: skip
def test_errors_of_every_format(made, tmp_path, form, grid, capsys):
    """Each tensor on a grid has its shape and rounding error, all others say why they are none."""
    _, checkpoint = made
    out, path = tmp_path / "v.json", tmp_path / f"{form}.bin"
    options = ["--grid", grid, "--out", str(path)]
    assert convert(["--from", str(checkpoint), "--to", form, *options]) == 0
    assert main([str(path), "--against", str(checkpoint), "--grid", grid, "--json", str(out)]) == 0
    rows = {row["name"]: row for row in json.loads(out.read_text())["rows"]}
    state, grids = openai.load(checkpoint).state, assign_grids(TOY, grid)
    for name, grid_name in grids.items():
        weight = state[name].float()
        error = relative_error(weight, grid_name)
        if form == "ct2":
            if "blocks" in name or "embedding" in name:
                continue  # fused, or checked above
            name = name.replace(".", "/")
        assert rows[name]["error"] == pytest.approx(error, rel=1e-5), name
        assert rows[name]["shape"] == list(weight.shape) and rows[name]["kind"] == "on a grid"
        del rows[name]
    left = {row["kind"] for row in rows.values() if row["error"] is None}
    assert {"LayerNorm", "bias", "positional embedding"} <= left
    if form == "ggml":
        assert rows["encoder.conv1.weight"]["kind"] == "convolution: ggml holds it in float16"
    open_ = [name for name, row in rows.items() if row["kind"] == "could be on a grid"]
    convolutions = ["encoder.conv1.weight", "encoder.conv2.weight"]
    assert open_ == (convolutions if form == "packed" and "ggml" in grid else [])
    said = capsys.readouterr().out
    line = f"in float although it could be on a grid: {', '.join(convolutions)}\n"
    assert (line in said) == bool(open_) == ("although" in said)


@pytest.mark.slow
def test_fused_matrices_have_one_error(made, tmp_path):
    folder, checkpoint = made
    assert verify(folder, checkpoint, "--json", str(tmp_path / "v.json")) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "v.json").read_text())["rows"]}
    state = openai.load(checkpoint).state
    parts = [state[f"encoder.blocks.0.attn.{n}.weight"].float() for n in ("query", "key", "value")]
    weight = torch.cat(parts)
    error = relative_error(weight, "ct2_int8")
    row = rows["encoder/layer_0/self_attention/linear_0/weight"]
    assert row["shape"] == [192, 64] and row["error"] == pytest.approx(error, rel=1e-5)


def test_what_could_be_on_a_grid():
    """Only what nothing says of: the very weights that training may put on one."""
    names = weight_shapes(TOY)
    assert [name for name in names if float_kind(name) == OPEN] == candidates(TOY)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variable", ["decoder/layer_0/ffn/linear_0/weight", "encoder/conv1/weight"]
)
@pytest.mark.parametrize("suffix", ["", "_scale"])
def test_one_changed_byte_of_the_file(made, variable, suffix):
    folder, checkpoint = made
    path = folder / "model.bin"
    data = bytearray(path.read_bytes())
    name = f"{variable}{suffix}\0".encode()
    rank = data[data.index(name) + len(name)]
    data[data.index(name) + len(name) + 1 + 4 * rank + 5 + 40] ^= 1
    path.write_bytes(data)
    assert verify(folder, checkpoint) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decoder.blocks.0.mlp.2.weight", "encoder.ln_post.bias"])
def test_one_changed_weight_of_the_checkpoint(made, name):
    folder, path = made
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["model_state_dict"][name].view(-1)[9] += 0.05
    torch.save(checkpoint, path)
    assert verify(folder, path) == 1


@pytest.mark.slow
def test_experiment_folder(made, tmp_path, capsys):
    """A student as ESPnet leaves it: the averaged checkpoint and the configuration."""
    folder, checkpoint = made
    exp = tmp_path / "exp" / "qat"
    exp.mkdir(parents=True)
    state = openai.load(checkpoint).state
    saved = {k.replace(".", ".net.", 1): v.float() for k, v in state.items()}
    dims = json.dumps(vars(TOY))
    (exp / "config.yaml").write_text(
        f"encoder: dq_whisper\ndecoder: dq_whisper\nencoder_conf: {{dims: {dims}}}\n"
        "model_conf: {grid: ct2_int8, preset: full}\n"
    )
    torch.save(saved, exp / "valid.loss.ave.pth")
    assert main([str(folder), "--against", str(exp.parent)]) == 0
    saved["decoder.net.blocks.0.attn.key.weight"][3, 4] = 0.5
    torch.save(saved, exp / "valid.loss.ave.pth")
    assert main([str(folder), "--against", str(exp.parent)]) == 1
    with pytest.raises(InputError, match="--grid is for a checkpoint"):
        verify(folder, exp.parent)
    config = (exp / "config.yaml").read_text()
    (exp / "config.yaml").write_text(config.replace("full", "paper"))
    assert export(["--exp", str(exp), "--to", "ct2", "--out", str(tmp_path / "paper")]) == 0
    capsys.readouterr()
    out = tmp_path / "v.json"
    assert main([str(tmp_path / "paper"), "--against", str(exp), "--json", str(out)]) == 0
    lines, report = capsys.readouterr().out.splitlines(), json.loads(out.read_text())
    (line,) = (line for line in lines if line.startswith("in float although"))
    left = [row["name"] for row in report["rows"] if row["kind"] == "could be on a grid"]
    assert line.endswith(": " + ", ".join(left)) and len(left) == 2 + 4
    assert all(name.startswith("encoder/") for name in left)
    on_grid = [row for row in report["rows"] if row["error"] is not None]
    assert len(on_grid) == 1 + 7 and {row["grid"] for row in on_grid} == {"ct2_int8"}


@pytest.mark.slow
@pytest.mark.parametrize("first,second,grid", [("ct2", "packed", "ct2_int8"),
                                              ("packed", "ggml", "ggml_q5_0"),
                                              ("onnx", "packed", "onnx_int8")])  # fmt: skip
def test_against_a_file_that_is_quantized_itself(made, tmp_path, first, second, grid, capsys):
    source, out = tmp_path / "first", tmp_path / "second"
    options = ["--from", str(made[1]), "--to", first, "--grid", grid, "--out", str(source)]
    assert convert(options) == 0
    assert convert(["--from", str(source), "--to", second, "--out", str(out)]) == 0
    against = ["--against", str(source), "--grid", "keep"]
    assert main([str(out), *against, "--json", str(tmp_path / "v.json")]) == 0
    found = json.loads((tmp_path / "v.json").read_text())
    on_grid = [row for row in found["rows"] if row["kind"] == "on a grid"]
    assert on_grid and {row["error"] for row in on_grid} == {0.0}
    # What was rounded anew to another grid is not the same.
    if second == "packed":
        options = ["--to", "packed", "--grid", "uniform4", "--out", str(out)]
        assert convert(["--from", str(source), *options]) == 0
        assert main([str(out), *against]) == 1


def test_a_path_that_no_runtime_opens_is_no_wrong_model(made):
    folder = made[0].rename(made[0].with_name("\udcffct2"))
    for read in (lambda: verify(folder, made[1]), lambda: load_runtime(None, folder)):
        with pytest.raises(InputError, match="\udcffct2: no runtime opens a path"):
            read()


def test_bad_input(made, tmp_path):
    folder, checkpoint = made
    with pytest.raises(InputError, match="grid ggml_q5_0 does not fit ct2"):
        main([str(folder), "--against", str(checkpoint), "--grid", "ggml_q5_0"])
    with pytest.raises(InputError, match="--grid is missing"):
        main([str(folder), "--against", str(checkpoint)])
    with pytest.raises(InputError, match=r"--grid keep: .*toy\.pt holds no integers"):
        main([str(folder), "--against", str(checkpoint), "--grid", "keep"])
    with pytest.raises(InputError, match="holds neither"):
        verify(tmp_path, checkpoint)
    with pytest.raises(InputError, match="no such file"):
        verify(folder, tmp_path / "none.pt")
    with open(folder / "model.bin", "r+b") as f:
        f.truncate(1000)
    with pytest.raises(InputError, match="truncated"):
        verify(folder, checkpoint)
