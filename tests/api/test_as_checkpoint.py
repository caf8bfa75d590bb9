"""Any model as openai-whisper's checkpoint: what teachers and students of the recipe become."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import whisper
import yaml
from safetensors.torch import save_file
from whisper.model import ModelDimensions

import espnet_dq as dq
from espnet_dq.api.checkpoint import as_checkpoint, place
from espnet_dq.api.models import Model
from espnet_dq.errors import InputError
from espnet_dq.quant.grids import get_grid
from espnet_dq.student.checkpoint import CHECKPOINT
from espnet_dq.whisper.vocabulary import numbers, own_vocabulary
from espnet_dq.whisper.weights import EMBEDDING, Weights

SMALL = {"state": 32, "layers": 1, "text_ctx": 32, "audio_ctx": 100}


@pytest.fixture
def toy(save_toy, tmp_path) -> Path:
    return shutil.copy(save_toy(seed=4, **SMALL), tmp_path / "toy.pt")


def state_of(path) -> dict[str, torch.Tensor]:
    """By stock openai-whisper."""
    return whisper.load_model(str(path), device="cpu").state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "grid", "said"),
    [
        ("hf", None, "hf"),
        ("ggml", None, "ggml"),
        ("ct2", "ct2_int8", "ct2, quantized: ct2_int8"),
        ("ggml", "ggml_q5_0", "ggml, quantized: ggml_q5_0"),
        ("onnx", "onnx_int8", "onnx, quantized: onnx_int8"),
        ("packed", "uniform4", "packed, quantized: uniform4"),
    ],
)
def test_every_format(form, grid, said, toy, tmp_path, capsys):
    """Float weights as they were, rounded ones as their grid's values, and a line says which."""
    source = tmp_path / "my model"
    model = dq.load(toy)
    dq.save(dq.quantize(model, grid) if grid else model, source, to=form)
    grids = dq.load(source).grids
    assert bool(grids) == bool(grid)
    path = as_checkpoint(source, tmp_path / "weights")
    assert capsys.readouterr().err == f"{path}: made of {source} ({said})\n"
    found = state_of(path)
    for name, tensor in model.weights.state.items():
        expected = [tensor, tensor.half().float()]  # some formats have no more
        if name in grids:
            expected = [get_grid(grids[name]).fake(tensor)]
        assert any(torch.equal(found[name], value) for value in expected), name
    origin = json.loads(path.with_suffix(".json").read_text())
    assert origin["source"] == str(source) and place(source, tmp_path / "weights")[0] == path
    time = path.stat().st_mtime_ns
    assert as_checkpoint(source, tmp_path / "weights") == path and path.stat().st_mtime_ns == time
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_a_checkpoint_is_itself_and_what_changed_is_another(toy, tmp_path):
    weights = tmp_path / "weights"
    assert as_checkpoint(toy, weights) == toy and not weights.exists()
    folder = tmp_path / "hf"
    dq.save(dq.load(toy), folder, to="hf")
    first = as_checkpoint(folder, weights)
    (folder / "optimizer.pt").touch()  # of a training
    (folder / "runs").mkdir()
    assert as_checkpoint(folder, weights) == first
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    second = as_checkpoint(folder, weights)
    assert second != first and second.name.startswith("hf-")
    state = state_of(second)
    second.write_bytes(second.read_bytes()[:-1])  # damaged: made again
    assert as_checkpoint(folder, weights) == second
    assert all(torch.equal(tensor, state[name]) for name, tensor in state_of(second).items())
    second.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=rf"{second.name}: was not fetched"):
        as_checkpoint(folder, weights)


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["all", "some"])
def test_added_tokens_are_left_out(kept, toy, trim, tmp_path, capsys):
    if kept == "some":
        toy = trim(toy, ["hello"])
    weights = dq.load(toy).weights
    dims, rows = weights.dims, weights.state[EMBEDDING]
    ids = range(dims.n_vocab) if kept == "all" else dims.kept
    end = sum(i < 50257 for i in ids)  # <|endoftext|>
    more = torch.full((1, rows.shape[1]), 0.5)
    rows = torch.cat([rows[:end], more, rows[end : end + 1], more, rows[end + 1 :]])
    sizes = ModelDimensions(**numbers(dims) | {"n_vocab": len(rows)})
    added = own_vocabulary(sizes, [*ids], "here", ("[UM]",), ("<|noise|>",))
    dq.save(Model(Weights(added, weights.state | {EMBEDDING: rows})), tmp_path / "hf", to="hf")
    path = as_checkpoint(tmp_path / "hf", tmp_path / "weights")
    assert "(hf, without its 2 added tokens)\n" in capsys.readouterr().err
    found = dq.load(path).weights
    assert found.dims == dims
    assert torch.equal(found.state[EMBEDDING], weights.state[EMBEDDING])


def test_a_folder_that_is_called_as_openais(toy, tmp_path, monkeypatch):
    """As `--from` and `dq.load` take it: what is here comes first, `openai:` is always OpenAI's."""
    monkeypatch.chdir(tmp_path)
    out = Path("weights")
    assert place("tiny", out) == place("openai:tiny", out) == (out / "tiny.pt", "")
    dq.save(dq.load(toy), "tiny", to="hf")
    assert place("tiny", out) == place("./tiny", out) != place("openai:tiny", out)
    assert as_checkpoint("tiny", out) == place("./tiny", out)[0]
    assert place("openai:tiny", out) == (out / "tiny.pt", "")


def test_adapters_and_their_base(toy, tmp_path, capsys):
    folder, width = tmp_path / "lora", SMALL["state"]
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj"]}
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(config | {"base_model_name_or_path": str(toy)}))
    layers = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn",
              "decoder.layers.0.encoder_attn"]  # fmt: skip
    shapes = {"A": (1, width), "B": (width, 1)}
    save_file(
        {f"base_model.model.model.{layer}.q_proj.lora_{x}.weight": torch.full(shape, 0.5)
         for layer in layers for x, shape in shapes.items()},
        folder / "adapter_model.safetensors",
    )  # fmt: skip
    made = as_checkpoint(folder, tmp_path / "weights")
    assert "(adapters and their base, openai)" in capsys.readouterr().err
    before = state_of(toy)
    name = "encoder.blocks.0.attn.query.weight"
    assert torch.equal(state_of(made)[name], before[name] + 0.25)
    content = torch.load(toy)
    content["model_state_dict"]["decoder.ln.bias"] += 1
    torch.save(content, toy)
    assert as_checkpoint(folder, tmp_path / "weights") != made  # of another base
    path.write_text(json.dumps(config | {"base_model_name_or_path": "someone/whisper"}))
    with pytest.raises(InputError, match="its base someone/whisper is not here"):
        as_checkpoint(folder, tmp_path / "weights")


def test_an_experiment_stands_for_its_float_weights(toy, tmp_path, capsys):
    """That of its last training; what else lies in the folder decides nothing."""
    exp, weights = tmp_path / "exp", dq.load(toy).weights
    (exp / "qat").mkdir(parents=True)
    (exp / "logs").mkdir()
    state = {n.replace(".", ".net.", 1): t + 1 / 3 for n, t in weights.state.items()}
    torch.save(state, exp / "qat" / CHECKPOINT)
    config = {"encoder": "dq_whisper", "decoder": "dq_whisper",
              "encoder_conf": {"dims": vars(weights.dims)},
              "model_conf": {"grid": "ct2_int8", "preset": "full"}}  # fmt: skip
    (exp / "qat/config.yaml").write_text(yaml.safe_dump(config))
    path = as_checkpoint(exp, tmp_path / "weights")
    assert "(a training's float weights)" in capsys.readouterr().err
    for name, tensor in state_of(path).items():
        assert torch.equal(tensor, weights.state[name] + 1 / 3), name
    (exp / "run.json").write_text("{}")
    assert as_checkpoint(exp, tmp_path / "weights") == path


@pytest.mark.parametrize("what", ["empty", "file", "nothing"])
def test_what_is_no_model(what, tmp_path):
    path = tmp_path / what
    if what == "empty":
        path.mkdir()
    elif what == "file":
        path.write_text("text")
    with pytest.raises(InputError, match=str(path)):
        as_checkpoint(path, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()
