"""Layers compared without a map between them, and what the projector then starts from."""

import pytest
import torch
import torch.nn.functional as F

from espnet_dq.config import DistillConfig
from espnet_dq.distill.hidden import LayerLoss
from espnet_dq.distill.projector import FIT_BATCHES, Projector
from espnet_dq.distill.similarity import linear_cka


def test_cka_is_that_of_centred_kernels():
    """Kornblith et al.: HSIC of the positions' kernels, which have nothing of the widths."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 30, 8), torch.randn(3, 30, 12)
    teacher[1, :, :8] = student[1] * torch.rand(8)  # alike, but for the channels' sizes
    found = linear_cka(student, teacher)
    centre = torch.eye(30) - 1 / 30

    def kernel(x):
        x = F.layer_norm(x, x.shape[-1:])
        return centre @ x @ x.T @ centre

    for i, s in enumerate(student):
        for j, t in enumerate(teacher):
            a, b = kernel(s), kernel(t)
            expected = (a * b).sum() / (a.norm() * b.norm())
            assert found[i, j] == pytest.approx(expected.item(), rel=1e-4)
    assert found.argmax(dim=1)[1] == 1 and found.min() >= 0 and found.max() <= 1
    assert linear_cka(student, student).diagonal().allclose(torch.ones(2), atol=1e-5)


@pytest.mark.parametrize(
    ("matching", "expected"),
    [("static", [1, 3]), ("dynamic", [2, 0]), ("dynamic_monotonic", [2, 2])],
)
def test_the_choice_is_of_layers_that_are_alike(matching, expected):
    """Regression: the projector was fitted on evenly spaced layers, which then were the nearest
    ones in all modes: none ever chose anything else."""
    torch.manual_seed(1)
    shared, own = torch.randn(20, 16), LayerLoss(DistillConfig(matching=matching))
    projector = Projector(20, 16)
    for _ in range(FIT_BATCHES + 1):
        teacher = torch.randn(4, 200, 20)
        teacher[2] += 0.5 * teacher[0]  # which of the layers from 2 on is then the nearest to 0
        student = torch.stack([teacher[2], teacher[0]]) @ shared
        rows = torch.zeros(200, dtype=torch.long)
        _, mapping, _ = own(projector, student, teacher, rows, rows[:1], 200, training=True)
    assert mapping[0].tolist() == expected
