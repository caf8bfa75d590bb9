"""Losses against torch's own and against plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from espnet_dq.config import DISTANCES
from espnet_dq.distill.hidden import GRADIENT_PART, gradient_ratio
from espnet_dq.distill.losses import (
    cross_entropy,
    hidden_loss,
    kl_divergence,
    pair_sums,
    prepare_features,
    topk_kl_divergence,
    topk_log_probs,
)
from espnet_dq.distill.projector import Projector


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return torch.randn(7, 50) * 3, torch.randn(7, 50) * 3


def test_cross_entropy_is_torchs(logits):
    targets = torch.arange(7)
    assert torch.allclose(cross_entropy(logits[0], targets, 7), F.cross_entropy(logits[0], targets))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_kl_is_torchs_distribution(logits, temperature):
    s, t = (torch.distributions.Categorical(logits=x / temperature) for x in logits)
    expected = temperature**2 * torch.distributions.kl_divergence(t, s).mean()
    assert torch.allclose(kl_divergence(*logits, temperature, 7), expected, rtol=1e-5)


def test_kl_from_all_tokens_is_exact_and_from_some_a_lower_bound(logits):
    full = kl_divergence(*logits, 1.0, 7)
    ids, log_p = topk_log_probs(logits[1], 50, 1.0)
    assert torch.allclose(topk_kl_divergence(logits[0], ids, log_p, 1.0, 7), full, rtol=1e-4)
    previous = torch.tensor(0.0)
    for k in (1, 5, 20, 50):
        ids, log_p = topk_log_probs(logits[1], k, 1.0)
        some = topk_kl_divergence(logits[0], ids, log_p, 1.0, 7)
        assert previous - 1e-5 <= some <= full + 1e-5
        previous = some


def test_topk_kl_has_finite_gradients_when_the_rest_is_nothing():
    student = torch.zeros(2, 10, requires_grad=True)
    teacher = torch.full((2, 10), -200.0)
    teacher[:, 0] = 200.0
    loss = topk_kl_divergence(student, *topk_log_probs(teacher, 3, 1.0), 1.0, 2)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(student.grad).all()


def plain_distance(s, t, distance):
    """d(S_i, T_j) for one pair, as method page and paper write it, position by position."""
    total = 0.0
    for a, b in zip(s, t, strict=True):
        if distance == "mse":
            a, b = F.layer_norm(a, a.shape), F.layer_norm(b, b.shape)
            total += ((a - b) ** 2).mean()
        elif distance == "softmax_mse":
            total += ((a.softmax(0) - b.softmax(0)) ** 2).sum()
        else:
            total += 1 - F.cosine_similarity(a, b, dim=0)
    return total / len(s)


@pytest.mark.parametrize("distance", DISTANCES)
def test_pair_sums_are_those_of_the_double_loop(distance):
    torch.manual_seed(1)
    s, t = torch.randn(3, 5, 16), torch.randn(4, 5, 16)
    group = torch.tensor([1, 0, 1, 1, 0])
    found = pair_sums(prepare_features(s, distance), prepare_features(t, distance), group, 2)
    found /= torch.tensor([2, 3])[:, None, None]  # positions of each group
    for g, i, j in itertools.product(range(2), range(3), range(4)):
        expected = plain_distance(s[i, group == g], t[j, group == g], distance)
        assert torch.allclose(found[g, i, j], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_hidden_loss_is_the_mean_of_the_chosen_pairs(distance):
    torch.manual_seed(2)
    s, t = torch.randn(3, 5, 16), torch.randn(4, 5, 16)
    mapping, group = torch.tensor([[0, 2, 2], [1, 1, 3]]), torch.tensor([1, 0, 1, 1, 0])
    found = hidden_loss(
        prepare_features(s, distance), prepare_features(t, distance), mapping, group, 5
    )
    expected = sum(
        plain_distance(s[i, group == g], t[mapping[g, i], group == g], distance) * n
        for i in range(3)
        for g, n in ((0, 2), (1, 3))
    )
    assert torch.allclose(found, expected / (3 * 5), rtol=1e-4)


def test_gradients_reach_only_the_chosen_teacher_layers():
    torch.manual_seed(3)
    s, t = torch.randn(2, 5, 8), torch.randn(3, 5, 8, requires_grad=True)
    features = prepare_features(s, "mse"), prepare_features(t, "mse")
    hidden_loss(*features, torch.tensor([[0, 2]]), torch.zeros(5, dtype=torch.long), 5).backward()
    assert t.grad[0].abs().sum() > 0 and t.grad[2].abs().sum() > 0
    assert t.grad[1].abs().sum() == 0


def test_projector_starts_from_least_squares():
    torch.manual_seed(4)
    true = torch.randn(12, 20)
    projector = Projector(20, 12)
    x = torch.randn(3, 200, 20)
    projector.fit(x, x @ true.T)
    assert torch.allclose(projector.weight, true, atol=0.02)
    numpy_like = torch.linalg.lstsq(x.flatten(0, 1), (x @ true.T).flatten(0, 1)).solution.T
    assert torch.allclose(projector.weight, numpy_like, atol=0.02)


def test_projector_fit_adds_up_batches():
    torch.manual_seed(5)
    x, y = torch.randn(400, 6), torch.randn(400, 5)
    whole, parts = Projector(6, 5), Projector(6, 5)
    whole.fit(x, y)
    for piece in range(0, 400, 100):
        parts.fit(x[piece : piece + 100], y[piece : piece + 100])
    assert torch.allclose(whole.weight, parts.weight, atol=1e-5)
    assert parts.fitting and int(parts.batches) == 4


def test_a_batch_that_is_not_finite_leaves_the_projector_as_it_was():
    torch.manual_seed(5)
    x, y = torch.randn(100, 6), torch.randn(100, 5)
    projector, other = Projector(6, 5), Projector(6, 5)
    projector.fit(x, y)
    for bad in (torch.nan, torch.inf):
        projector.fit(x, y.index_fill(0, torch.tensor([3]), bad))
    other.fit(x, y)
    assert torch.equal(projector.weight, other.weight) and int(projector.batches) == 1


def test_softmax_mse_has_t_squared():
    torch.manual_seed(6)
    s, t = torch.randn(1, 5, 16), torch.randn(1, 5, 16)
    a, b = (prepare_features(x, "softmax_mse", 2.0) for x in (s, t))
    expected = 4 * ((s / 2).softmax(-1) - (t / 2).softmax(-1)).square().sum() / 5
    zeros = torch.zeros(5, dtype=torch.long)
    found = hidden_loss(a, b, torch.tensor([[0]]), zeros, 5)
    assert torch.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("hidden", "kl", "ratio"),
    [(2.0, 3.0, 1.5 * GRADIENT_PART), (3e38, 3.0, None), (2.0, 3e38, None), (0.0, 3.0, None),
     (2.0, 0.0, None), (torch.nan, 3.0, None)],
)  # fmt: skip
def test_a_weight_of_gradients_that_are_none_is_not_measured(hidden, kl, ratio):
    """Overflow, in the one or the other, and no gradient: a weight of 0 would be kept for good."""
    parameter = torch.nn.Parameter(torch.ones(()))
    found = float(gradient_ratio(hidden * parameter, kl * parameter, 4, [parameter]))
    assert found == pytest.approx(ratio) if ratio else found != found
