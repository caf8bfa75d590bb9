"""From the float weights to those on the grid, in a part of a training."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from espnet_dq.config import MOST_RAMP, QuantConfig
from espnet_dq.errors import InputError, WorkError
from espnet_dq.quant.fake_quant import FakeQuantize, set_share
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import prepare, quantized_weights
from espnet_dq.task.trainer import DQTrainer, Ramp


@pytest.mark.parametrize("ranges", ["max", "lsq", "pact"])
def test_between_the_weight_and_the_grid(ranges):
    torch.manual_seed(0)
    grid, upstream = get_grid("uniform3_g8"), torch.randn(4, 16)
    found = {}
    for share in (0.0, 0.25, 1.0):
        fake = FakeQuantize(grid, ranges, (4, 16))
        if ranges != "max":
            fake.range.data.fill_(0.5 / 64)
        set_share(nn.ModuleList([fake]), share)
        weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        values = fake(weight)
        (values * upstream).sum().backward()
        with torch.no_grad():  # dev, and what is exported
            clip = None if ranges == "max" else torch.full((4, 2), 0.5)
            assert torch.equal(fake(weight), grid.fake(weight, clip))
        found[share] = values, weight.grad, None if ranges == "max" else fake.range.grad
    weight = weight.detach()
    assert torch.equal(found[0.0][0], weight) and torch.equal(found[0.0][1], upstream)
    whole = found[1.0]
    torch.testing.assert_close(found[0.25][0], weight + 0.25 * (whole[0] - weight))
    torch.testing.assert_close(found[0.25][1], 0.75 * upstream + 0.25 * whole[1])
    if ranges != "max":
        torch.testing.assert_close(found[0.25][2], 0.25 * whole[2])
        assert not found[0.0][2].any() and whole[2].any()


class Model(nn.Module):
    """As the trainer sees ours: a ramp, and a weight on a grid."""

    def __init__(self, ramp: float):
        super().__init__()
        self.quant = QuantConfig(grid="uniform4", ramp=ramp)
        self.layer = nn.Linear(8, 8)
        prepare(self, {"layer.weight": "uniform4"})
        assert quantized_weights(self)

    @property
    def share(self) -> float:
        return self.layer.parametrizations.weight[0].share


def test_a_resumed_training_goes_on_where_it_was_and_ends_on_the_grid():
    model, shares = Model(0.5), []
    for epoch in (1, 2, 3, 4):
        model = Model(0.5) if epoch == 2 else model  # begun again from a checkpoint
        batches = Ramp([*"abc"], model, epoch, 4)
        assert len(batches) == 3
        for batch in batches:
            shares.append((batch, model.share))
    assert [batch for batch, _ in shares] == [*"abc"] * 4
    assert [share for _, share in shares] == pytest.approx([i / 6 for i in range(6)] + [1.0] * 6)


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_trainer_ramps_models_that_say_so(wrapped, monkeypatch, tmp_path):
    said = {}
    monkeypatch.setattr(
        "espnet2.train.trainer.Trainer.train_one_epoch", lambda **kwargs: said.update(kwargs)
    )
    for ramp in (0.0, 0.25):
        model = Model(ramp)
        DQTrainer.train_one_epoch(
            model=SimpleNamespace(module=model) if wrapped else model,
            optimizers=[],
            iterator=[1, 2],
            reporter=SimpleNamespace(get_epoch=lambda: 2),
            options=SimpleNamespace(output_dir=tmp_path, max_epoch=4),
            distributed_option=SimpleNamespace(dist_rank=0),
        )
        assert isinstance(said["iterator"], Ramp) == (ramp > 0)
    assert (said["iterator"].before, said["iterator"].end) == (2, 2.0)


def test_an_epoch_begins_without_gradients_of_the_one_before(monkeypatch, tmp_path):
    """Of batches that made no whole step of `accum_grad`; a resumed training has none of them."""
    found = []
    monkeypatch.setattr(
        "espnet2.train.trainer.Trainer.train_one_epoch",
        lambda **kwargs: found.extend(p.grad for p in kwargs["model"].parameters()),
    )
    model = Model(0.0)
    model.layer(torch.ones(8)).sum().backward()
    DQTrainer.train_one_epoch(
        model=model,
        optimizers=[torch.optim.SGD(model.parameters())],
        options=SimpleNamespace(output_dir=tmp_path),
        distributed_option=SimpleNamespace(dist_rank=0),
    )
    assert found and not any(grad is not None and grad.any() for grad in found)


def test_a_training_without_finite_gradients_is_not_finished(monkeypatch, tmp_path):
    """ESPnet would end it with exit code 0, and leave the average of what there is."""
    monkeypatch.setattr("espnet2.train.trainer.Trainer.train_one_epoch", lambda **_: True)
    with pytest.raises(WorkError, match="no step of this epoch had finite gradients"):
        DQTrainer.train_one_epoch(
            model=Model(0.0),
            optimizers=[],
            iterator=[],
            reporter=SimpleNamespace(get_epoch=lambda: 1),
            options=SimpleNamespace(output_dir=tmp_path, max_epoch=1),
            distributed_option=SimpleNamespace(dist_rank=0),
        )


def test_what_a_ramp_cannot_be():
    with pytest.raises(InputError, match=r"ramp: 0\.8 is not a number of 0 to 0\.75"):
        QuantConfig(ramp=0.8)
    with pytest.raises(InputError, match="ramp begins with the float weights"):
        QuantConfig(grid="uniform4", ranges="gptq", ramp=0.1)
    assert QuantConfig(ramp=MOST_RAMP).ramp == MOST_RAMP < 1
