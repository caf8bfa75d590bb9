"""A training folder read back: what is exported is what the forward pass used."""

import os

import pytest
import torch
import yaml

from espnet_dq.bin.export import main as export
from espnet_dq.bin.verify import main as verify
from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.quant.grids import get_grid
from espnet_dq.student.checkpoint import CHECKPOINT, load_student
from tests import toys


@pytest.fixture
def exp(tmp_path, make_toy):
    """What ESPnet leaves of a toy run; float weights that fp16 cannot hold."""
    quant = {"grid": "ct2_int8", "preset": "full"}
    exp = toys.save_training(tmp_path / "exp", make_toy(seed=7, text_ctx=64), quant)
    path = exp / "qat" / CHECKPOINT
    torch.save(torch.load(path) | {"projector.weight": torch.zeros(2, 2)}, path)
    return exp


@pytest.mark.slow
def test_reference_weights_are_the_grid_values(exp, make_toy):
    student, plain = load_student(exp), make_toy(seed=7, text_ctx=64).state_dict()
    weights = student.reference_weights()
    for name, value in plain.items():
        on_grid = name in student.grids
        assert torch.equal(weights[name], get_grid("ct2_int8").fake(value) if on_grid else value)
    assert "decoder.token_embedding.weight" in student.grids


@pytest.mark.slow
def test_export_verify_and_break(exp, tmp_path, capsys):
    """One byte of an integer in the file, and one weight of the checkpoint, are both seen."""
    export(["--exp", str(exp), "--to", "ct2", "--out", str(tmp_path / "ct2")])
    assert verify([str(tmp_path / "ct2"), "--against", str(exp)]) == 0
    assert capsys.readouterr().out.rstrip().endswith(" 0 mismatched")

    model = tmp_path / "ct2/model.bin"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1  # in the middle of the token embedding
    model.write_bytes(content)
    assert verify([str(tmp_path / "ct2"), "--against", str(exp)]) == 1
    content[len(content) // 2] ^= 1
    model.write_bytes(content)

    path = exp / "qat" / CHECKPOINT
    state = torch.load(path, weights_only=True)
    state["decoder.net.blocks.0.mlp.0.weight"][3, 3] += 0.05
    torch.save(state, path)
    assert verify([str(tmp_path / "ct2"), "--against", str(exp)]) == 1


@pytest.mark.slow
def test_openai_export_holds_the_grid_values(exp, tmp_path):
    import whisper

    export(["--exp", str(exp), "--to", "openai", "--out", str(tmp_path / "s.pt")])
    model = whisper.load_model(str(tmp_path / "s.pt"), device="cpu")
    weights = load_student(exp).reference_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_grid_that_the_format_does_not_hold(exp, tmp_path):
    config = exp / "qat/config.yaml"
    config.write_text(config.read_text().replace("ct2_int8", "uniform4"))
    with pytest.raises(InputError, match="uniform4 does not fit ct2"):
        export(["--exp", str(exp), "--to", "ct2", "--out", str(tmp_path / "ct2")])
    assert not (tmp_path / "ct2").exists()


def test_broken_folders_are_named(exp, tmp_path):
    with pytest.raises(InputError, match=r"neither a model nor an experiment"):
        load_student(tmp_path)
    path = exp / "qat" / CHECKPOINT
    state = torch.load(path, weights_only=True)
    del state["decoder.net.ln.bias"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"missing key decoder\.ln\.bias"):
        load_student(exp)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged or truncated"):
        load_student(exp)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        load_student(exp)


@pytest.mark.parametrize(
    ("window", "batches", "any_window"),
    [("random", "sorted", True), ("random", "unsorted", False), ("full", "sorted", False)],
)
def test_trained_in_windows_of_every_length(exp, tmp_path, window, batches, any_window):
    """Where short ones can come: a batch has one window, and unsorted ones are as long as any."""
    file = exp / "qat/config.yaml"
    config = yaml.safe_load(file.read_text())
    config["encoder_conf"]["window"] = window
    file.write_text(yaml.safe_dump(config | {"batch_type": batches}))
    assert load_student(exp).weights.any_window is any_window
    export(["--exp", str(exp), "--to", "ct2", "--out", str(tmp_path / "ct2")])
    assert verify([str(tmp_path / "ct2"), "--against", str(exp)]) == 0
    assert detect.load(tmp_path / "ct2").any_window is any_window


def _with(config, **values):
    """A configuration in which these keys say something else."""
    changed = yaml.safe_load(config) | {k: yaml.safe_load(v) for k, v in values.items()}
    return yaml.safe_dump(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: "{" + c, r"config\.yaml: not YAML \("),
        (lambda c: "- a\n- b\n", r"config\.yaml: not a YAML mapping"),
        (lambda c: "\udcff", r"config\.yaml: not YAML \(.*utf-8"),
        (lambda c: c.replace("dq_whisper", "conformer"), r"config\.yaml: not a dq_whisper model"),
        (lambda c: c.replace("encoder_conf", "other_conf"), "encoder_conf has no key dims"),
        (lambda c: c.replace("dims:", "sizes:"), "encoder_conf has no key dims"),
        (lambda c: _with(c, encoder_conf="5"), "encoder_conf is not a mapping"),
        (
            lambda c: _with(c, encoder_conf="{dims: 5}"),
            "model dimensions: 5 is neither",
        ),
        (lambda c: _with(c, encoder_conf="{dims: huge}"), "encoder_conf: unknown Whisper size"),
        (lambda c: c.replace("n_mels: 80", "n_mels: many"), "encoder_conf: dims: n_mels = 'many'"),
        (lambda c: _with(c, model_conf="[grid]"), "model_conf is not a mapping"),
        (lambda c: _with(c, model_conf="{grid: 8}"), "model_conf: grid: 8 is not a name"),
        (lambda c: _with(c, model_conf="{grid: int1}"), "model_conf: unknown grid 'int1'"),
        (lambda c: _with(c, model_conf="{preset: [full]}"), "model_conf: preset: .* is not a name"),
        (lambda c: _with(c, model_conf="{preset: half}"), "model_conf: unknown .*preset 'half'"),
        (
            lambda c: _with(c, model_conf="{grid: {a.weight: none}}"),
            "model_conf: a.weight is no weight",
        ),
    ],
)
def test_a_broken_configuration_is_one_line(exp, change, said):
    path = exp / "qat/config.yaml"
    content = change(path.read_text(encoding="utf-8"))
    path.write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=said) as caught:
        load_student(exp)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([torch.zeros(1)], "holds no state dict but a list"),
        (torch.zeros(1), "holds no state dict but a Tensor"),
        ({"encoder.net.conv1.bias": 3}, r"encoder\.net\.conv1\.bias is not a tensor"),
        ({1: 2, "model": {}}, r"missing key decoder\."),
        ({"encoder.net.x": torch.eye(3).to_sparse()}, "not a checkpoint of plain tensors"),
        ({"encoder.net.x": torch.eye(3, device="meta")}, "not a checkpoint of plain tensors"),
        ({"encoder.net.x": torch.eye(3) > 0}, r"encoder\.net\.x holds torch\.bool"),
        ({"encoder.net.x": torch.eye(3) * torch.nan}, r"encoder\.net\.x .*not all finite"),
        ({"encoder.net.x": torch.eye(3).double() * 1e99}, r"encoder\.net\.x .*beyond"),
        ({"encoder.net.x": torch.zeros(1).expand(1 << 16, 1 << 16)}, "larger than what"),
    ],
)
def test_something_else_than_a_checkpoint(exp, saved, said):
    path = exp / "qat" / CHECKPOINT
    torch.save(saved, path)
    with pytest.raises(InputError, match=said) as caught:
        load_student(exp)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_pipe_in_place_of_a_checkpoint(exp):
    path = exp / "qat" / CHECKPOINT
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"\.pth: not a regular file"):
        load_student(exp)
