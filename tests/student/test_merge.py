"""Merged models: torch's own averaging, and arithmetic that must come out even."""

import numpy as np
import pytest
import torch
import whisper
from torch.optim.swa_utils import AveragedModel

import espnet_dq as dq
from espnet_dq.bin.merge import main as merge
from espnet_dq.errors import InputError
from espnet_dq.student.merge import mean


@pytest.fixture(scope="module")
def toys(save_toy):
    return [save_toy(seed=seed, layers=1, text_ctx=32) for seed in range(3)]


@pytest.mark.slow
def test_the_mean_is_torchs(toys, tmp_path):
    """Of three models, one after the other, by `torch.optim.swa_utils`."""
    nets = [whisper.load_model(str(toy), device="cpu") for toy in toys]
    mean = AveragedModel(nets[0])
    for net in nets:
        mean.update_parameters(net)
    out = tmp_path / "merged.pt"
    assert merge(["--models", *map(str, toys), "--out", str(out)]) == 0
    found = whisper.load_model(str(out), device="cpu").state_dict()
    for name, expected in mean.module.named_parameters():
        # Three roundings of a running mean against one: a few units in the last place.
        few = (
            4
            * np.finfo(np.float32).eps
            * max(float(net.state_dict()[name].abs().max()) for net in nets)
        )
        torch.testing.assert_close(found[name], expected, rtol=0, atol=few)


@pytest.mark.slow
def test_shares(toys):
    first, second, third = (dq.load(toy).weights.state for toy in toys)
    alone = dq.merge(toys[:2], [1, 0]).weights.state
    assert all(torch.equal(alone[name], first[name].float()) for name in first)
    # What the second and the third learned of the first, both added to it.
    tasks = dq.merge(toys, [-1, 1, 1]).weights.state
    name = "decoder.blocks.0.mlp.0.weight"
    expected = second[name].double() + third[name].double() - first[name].double()
    assert torch.equal(tasks[name], expected.float())
    quarter = dq.merge(toys[:2], [0.75, 0.25]).weights.state
    np.testing.assert_array_equal(
        quarter[name].numpy(),
        (0.75 * first[name].double() + 0.25 * second[name].double()).float().numpy(),
    )


@pytest.mark.slow
def test_of_a_model_on_a_grid_its_values(toys, tmp_path):
    dq.save(dq.quantize(dq.load(toys[0]), "ct2_int8"), tmp_path / "int8")
    values = dq.load(tmp_path / "int8", keep=False).weights.state
    found = dq.merge([tmp_path / "int8", toys[1]], [1, 0])
    assert not found.quantized
    assert all(torch.equal(found.weights.state[name], values[name].float()) for name in values)
    other = dq.load(toys[0]).weights.state
    assert any(not torch.equal(values[name].float(), other[name].float()) for name in values)


@pytest.mark.parametrize(
    ("shares", "why"),
    [([0.5, 0.4], "not 1 together"), ([1.0], "one each"), ([float("nan"), 1], "not 1 together")],
)
def test_wrong_shares(toys, shares, why):
    with pytest.raises(InputError, match=why):
        dq.merge(toys[:2], shares)


def test_models_of_two_kinds(toys, save_toy, tmp_path):
    with pytest.raises(InputError, match="model 2 has ModelDimensions"):
        dq.merge([toys[0], save_toy(seed=0, layers=2, text_ctx=32)])
    with pytest.raises(InputError, match=r"a \.pt file"):
        merge(["--models", str(toys[0]), str(toys[1]), "--out", str(tmp_path / "merged")])
    with pytest.raises(InputError):
        merge(["--models", str(toys[0]), str(toys[1]), "--out", str(toys[0])])


def test_of_a_share_of_0_nothing_is_left():
    astray, sound = {"w": torch.full((2,), torch.nan)}, {"w": torch.ones(2)}
    assert mean([astray, sound], [0, 1])["w"].tolist() == [1, 1]
