import json

import pytest
import torch
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main
from espnet_dq.errors import InputError
from espnet_dq.formats import openai
from espnet_dq.formats.weights import Weights

TOY = ModelDimensions(80, 50, 64, 2, 1, 51865, 16, 64, 2, 1)


@pytest.fixture
def made(tmp_path):
    """(int8 folder, the checkpoint it was converted from)."""
    torch.manual_seed(0)
    state = Whisper(TOY).state_dict()
    state["decoder.positional_embedding"].normal_()  # openai-whisper leaves it uninitialised
    openai.save(tmp_path / "toy.pt", Weights(TOY, state))
    out = ["--to", "ct2", "--out", str(tmp_path / "ct2"), "--grid", "ct2_int8"]
    assert convert(["--from", str(tmp_path / "toy.pt"), *out]) == 0
    return tmp_path / "ct2", tmp_path / "toy.pt"


def verify(folder, checkpoint, *more):
    return main([str(folder), "--against", str(checkpoint), "--grid", "ct2_int8", *more])


def test_prints_each_tensor(made, tmp_path, capsys):
    folder, checkpoint = made
    capsys.readouterr()
    assert verify(folder, checkpoint, "--json", str(tmp_path / "v.json")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "grid", "bits", "bytes", "integers", "scales"]
    assert ["decoder/embeddings/weight", "ct2_int8", "8", "3319360", "0", "0"] in map(
        str.split, lines
    )
    report = json.loads((tmp_path / "v.json").read_text())
    assert report["mismatched"] == 0 and report["tensors"] == len(report["rows"]) == len(lines) - 2
    assert lines[-1].endswith(" 0 mismatched")


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


@pytest.mark.parametrize("name", ["decoder.blocks.0.mlp.2.weight", "encoder.ln_post.bias"])
def test_one_changed_weight_of_the_checkpoint(made, name):
    folder, path = made
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["model_state_dict"][name].view(-1)[9] += 0.05
    torch.save(checkpoint, path)
    assert verify(folder, path) == 1


def test_experiment_folder(made, tmp_path):
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


def test_bad_input(made, tmp_path):
    folder, checkpoint = made
    with pytest.raises(InputError, match="grid ggml_q5_0 does not fit ct2"):
        main([str(folder), "--against", str(checkpoint), "--grid", "ggml_q5_0"])
    with pytest.raises(InputError, match="--grid is missing"):
        main([str(folder), "--against", str(checkpoint)])
    with pytest.raises(InputError, match="holds neither"):
        verify(tmp_path, checkpoint)
    with pytest.raises(InputError, match="no such file"):
        verify(folder, tmp_path / "none.pt")
    with open(folder / "model.bin", "r+b") as f:
        f.truncate(1000)
    with pytest.raises(InputError, match="truncated"):
        verify(folder, checkpoint)
