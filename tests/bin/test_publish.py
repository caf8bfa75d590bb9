"""Folders ready to publish: verified, described with the measured numbers, and they run."""

import json

import pytest
import torch
import yaml

from espnet_dq.bin.publish import main as publish
from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.quant.checkpoint import CHECKPOINT, load_student
from tests.report.made_up import build


@pytest.fixture
def exp(tmp_path, make_toy):
    """A made-up report beside a toy student."""
    exp = build(tmp_path)
    run = json.loads((exp / "run.json").read_text())
    systems = []
    for system in run["systems"]:
        rates = {"en": 10.0, "ru": 20.5, "mean": 15.25}
        systems.append({**system, "wer": rates, "cer": rates, "utterances": 24})
    (exp / "results.json").write_text(json.dumps({"systems": systems}))
    model = make_toy(seed=7)
    state = {k.replace(".", ".net.", 1): v for k, v in model.state_dict().items()}
    (exp / "qat").mkdir(exist_ok=True)
    torch.save(state, exp / "qat" / CHECKPOINT)
    config = {
        "encoder": "dq_whisper",
        "decoder": "dq_whisper",
        "encoder_conf": {"dims": vars(model.dims)},
        "model_conf": {"grid": "ct2_int8", "preset": "full"},
    }
    (exp / "qat/config.yaml").write_text(yaml.safe_dump(config))
    return exp


@pytest.mark.parametrize(
    "grid,forms",
    [("ct2_int8", {"ct2", "hf", "packed"}), ("ggml_q5_0", {"ggml", "hf", "packed"}),
     ("onnx_int8", {"onnx", "hf", "packed"}), ("uniform4", {"hf", "packed"})],
)  # fmt: skip
def test_a_folder_for_each_runtime_that_holds_the_grid(exp, grid, forms, capsys):
    config = exp / "qat/config.yaml"
    config.write_text(config.read_text().replace("ct2_int8", grid))
    assert publish(["--exp", str(exp), "--data_licence", "CC-BY-SA-3.0"]) == 0
    folders = {path.name: path for path in (exp / "publish").iterdir()}
    assert set(folders) == forms
    weights = load_student(exp).reference_weights()
    for form, folder in folders.items():
        path = {"ggml": "model.bin", "packed": "model.safetensors"}.get(form, "")
        state = detect.load(folder / path).state
        name = "decoder.blocks.0.mlp.0.weight"
        assert torch.equal(state[name].float(), weights[name]), form
        card = (folder / "README.md").read_text()
        head = yaml.safe_load(card.split("---")[1])
        assert head["language"] == ["en", "ru"]
        assert "10.0 / 10.0|20.5 / 20.5|15.2" in card and "CC-BY-SA-3.0" in card
        assert "0 mismatched values in" in card
        assert ("it was not measured" in card) == (form in ("ggml", "onnx", "hf"))
    capsys.readouterr()


def test_without_a_report(exp):
    (exp / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json"):
        publish(["--exp", str(exp), "--data_licence", "x"])
    assert not (exp / "publish").exists()
