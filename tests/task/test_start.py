"""A start between a model and what training made of it."""

import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.task.start import merge_start


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
    with pytest.raises(InputError, match=r"start\.pth: has no projector\.weight"):
        merge_start(tmp_path / "trained.pth", tmp_path / "start.pth", 0.5, tmp_path / "m.pth")
    assert not (tmp_path / "m.pth").exists()
