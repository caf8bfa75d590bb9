"""Starts: between a model and what training made of it, and where rounding by clips leaves it."""

import json

import pytest
import torch

from espnet_dq.errors import InputError, WorkError
from espnet_dq.quant import gptq
from espnet_dq.quant.prepare import candidates
from espnet_dq.task.start import init_student, merge_start, round_start
from tests import toys


@pytest.fixture
def checkpoints(tmp_path):
    torch.manual_seed(0)
    start = {"encoder.a": torch.randn(3, 4), "decoder.b": torch.randn(5).half()}
    trained = {name: torch.randn(w.shape) for name, w in start.items()}
    trained["projector.weight"] = torch.randn(2)
    for name, state in (("start", start), ("trained", trained)):
        torch.save(state, tmp_path / f"{name}.pth")
    return start, trained


def test_between_them(checkpoints, tmp_path):
    start, trained = checkpoints
    out = merge_start(tmp_path / "start.pth", tmp_path / "trained.pth", 0.25, tmp_path / "m.pth")
    found = torch.load(out, weights_only=True)
    assert found.keys() == trained.keys()
    assert torch.equal(found["projector.weight"], trained["projector.weight"])
    for name, old in start.items():
        expected = torch.lerp(old.double(), trained[name].double(), 0.25).float()
        # Two products and a sum in float64 against a difference, a product and a sum.
        torch.testing.assert_close(found[name], expected, rtol=2**-23, atol=2**-40)
    whole = merge_start(tmp_path / "start.pth", tmp_path / "trained.pth", 1, tmp_path / "w.pth")
    assert torch.equal(torch.load(whole)["encoder.a"], trained["encoder.a"])


def test_what_cannot_be(checkpoints, tmp_path):
    with pytest.raises(InputError, match="from 0, the start, to 1"):
        merge_start(tmp_path / "start.pth", tmp_path / "trained.pth", 1.5, tmp_path / "m.pth")
    with pytest.raises(InputError, match=r"start\.pth: has no projector\.weight: it is"):
        merge_start(tmp_path / "trained.pth", tmp_path / "start.pth", 0.5, tmp_path / "m.pth")
    _, trained = checkpoints
    for weight, error, said in (
        (torch.randn(4, 3), InputError, r"encoder\.a has shape \(4, 3\), not \(3, 4\): it is of"),
        (torch.full((3, 4), torch.nan), WorkError, r"encoder\.a is not all finite: its training"),
    ):
        torch.save(trained | {"encoder.a": weight}, tmp_path / "odd.pth")
        for share in (0, 0.5):
            with pytest.raises(error, match=rf"odd\.pth: {said}"):
                merge_start(tmp_path / "start.pth", tmp_path / "odd.pth", share, tmp_path / "m.pth")
    assert not (tmp_path / "m.pth").exists()


@pytest.mark.slow
def test_clips_of_rounding_are_filled_as_in_training(tmp_path, monkeypatch):
    """Of a table of whisper.cpp's grids, too, which the recipe trains for torch, with zeros."""
    filled, begin = [], gptq.start

    def start(weights, grids, clips):
        filled.append(clips.padding)
        return begin(weights, grids, clips)

    monkeypatch.setattr(gptq, "start", start)
    exp, model = tmp_path / "exp", toys.make_model(state=32, layers=1)
    source = toys.save_model(tmp_path / "toy.pt", model)
    corpus = toys.save_corpus(exp / "data")
    (corpus / "train/utt2sha256").write_text("")
    table = dict.fromkeys(candidates(model.dims), "none")
    table["decoder.blocks.0.mlp.0.weight"] = "ggml_q4_0"
    (tmp_path / "grids.yaml").write_text(json.dumps(table))
    init = init_student(source, source, str(tmp_path / "grids.yaml"), exp / "init")
    (exp / "conf").mkdir()
    (exp / "conf/qat.yaml").write_text("model_conf: {ranges: gptq}")
    noted = []
    for padding in ("silence", "zeros", "zeros"):
        made = round_start(exp, "qat", init, exp / "init/rounded.pth", padding)
        noted.append(json.loads(made.with_name("rounded.pth.json").read_text())["padding"])
    assert filled == ["silence", "zeros"]
    torch.save({}, init)
    with pytest.raises(InputError, match=r"student\.pth: has no encoder\..*: it is of another"):
        round_start(exp, "qat", init, exp / "init/rounded.pth", "zeros")
    assert noted == ["silence", "zeros", "zeros"]
    (exp / "init/rounded.pth.json").write_text("{")
    with pytest.raises(InputError, match=r"rounded\.pth\.json:1: not JSON"):
        round_start(exp, "qat", init, exp / "init/rounded.pth", "zeros")
