"""The losses of distillation: cross-entropy, KL divergence, and hidden-state distances.

Only counted positions come in (N of them, gathered over the batch), so that padding never
enters a loss; sums are divided by a `count` that the caller gives, so that a loss does not
depend on how utterances are split into batches. Source: DQ-Whisper (arXiv 2305.10788) and, for
the T^2 of the KL term, Hinton et al. (arXiv 1503.02531).

    L = (1 - alpha) * CE + alpha * (T^2 * KL(p_teacher || p_student; T) + lambda_h * L_hidden)
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from espnet_dq.config import DISTANCES, DistillConfig, known
from espnet_dq.slices import row_slices

IGNORED = -100  # in place of a target


def cross_entropy(logits: Tensor, targets: Tensor, count: int) -> Tensor:
    """Sum of -log p(target) over [N, V] logits and [N] targets, divided by `count`.

    Targets that are `IGNORED` add nothing.
    """
    loss = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
    return loss / count


def kl_divergence(student: Tensor, teacher: Tensor, temperature: float, count: int) -> Tensor:
    """T^2 * KL(p_teacher || p_student) at temperature T, [N, V] logits each, over `count`.

    No gradient reaches the teacher.
    """
    return temperature**2 * _Divergence.apply(student, teacher, temperature) / count


class _Divergence(torch.autograd.Function):
    """Sum of the KL of all rows; of what autograd would keep, only the gradient is kept."""

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        total = torch.zeros((), device=student.device)
        slope = torch.empty_like(student, dtype=torch.float32)
        for rows in row_slices(student):
            log_q, log_p = (
                F.log_softmax(logits[rows].float() / temperature, dim=-1)
                for logits in (student, teacher)
            )
            p = log_p.exp()
            total += log_p.sub_(log_q).mul_(p).sum()
            torch.sub(log_q.exp_(), p, out=slope[rows])
        ctx.save_for_backward(slope)
        ctx.temperature, ctx.dtype = temperature, student.dtype
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        (slope,) = ctx.saved_tensors
        return (slope * (grad / ctx.temperature)).to(ctx.dtype), None, None


def topk_log_probs(logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens of [N, V] teacher logits: ids [N, k] and log-probabilities [N, k]."""
    log_p = F.log_softmax(logits.float() / temperature, dim=-1)
    values, ids = log_p.topk(k, dim=-1)
    return ids, values


def topk_kl_divergence(
    student: Tensor, ids: Tensor, log_p: Tensor, temperature: float, count: int
) -> Tensor:
    """T^2 * KL with the teacher known at k tokens, the rest of the mass taken as one event.

    Student logits [N, V]; the teacher's `ids` and `log_p` [N, k] at the same temperature. This
    is a lower bound of the full divergence (merging events never raises a KL) and equals it
    where teacher and student share the rest out alike.
    """
    log_q = F.log_softmax(student.float() / temperature, dim=-1).gather(1, ids)
    p = log_p.exp()
    tiny = torch.finfo(torch.float32).tiny
    rest_p = (1 - p.sum(dim=1)).clamp(min=0.0)
    rest_q = (1 - log_q.exp().sum(dim=1)).clamp(min=torch.finfo(torch.float32).eps)
    rest = rest_p * (rest_p.clamp(min=tiny).log() - rest_q.log())
    kl = (p * (log_p - log_q)).sum() + rest.sum()
    return temperature**2 * kl / count


def prepare_features(
    features: Tensor, distance: str, temperature: float = DistillConfig.temperature
) -> Tensor:
    """Put hidden states [L, N, D] where `distance` is a squared Euclidean distance.

    `mse`: layer-normalised and divided by sqrt(D), which makes it a mean over features;
    `softmax_mse`: T times the softmax at temperature T; `cosine`: unit length over sqrt(2), which
    makes it 1 - cos.
    """
    known("distance", distance, DISTANCES)
    features = features.float()
    width = features.shape[-1]
    if distance == "mse":
        return F.layer_norm(features, (width,)) / width**0.5
    if distance == "softmax_mse":
        return temperature * (features / temperature).softmax(dim=-1)
    return F.normalize(features, dim=-1) / 2**0.5


def pair_sums(student: Tensor, teacher: Tensor, group: Tensor, count: int) -> Tensor:
    """Sums [G, Ls, Lt] of the distances of all layer pairs over the positions of each group.

    Features [Ls, N, D] and [Lt, N, D] from `prepare_features`; `group` (N,) is one of `count` = G
    for each position. Sums of |s - t|^2, expanded to |s|^2 + |t|^2 - 2 s.t, so that one batched
    product gives all pairs; for choosing pairs, not for their gradients.
    """
    dots = torch.einsum("snd,tnd->nst", student, teacher)
    s, t = (x.square().sum(dim=2).T for x in (student, teacher))
    distances = (s[:, :, None] + t[:, None, :] - 2 * dots).clamp(min=0.0)
    return distances.new_zeros(count, *distances.shape[1:]).index_add(0, group, distances)


def hidden_loss(
    student: Tensor, teacher: Tensor, mapping: Tensor, group: Tensor, count: int
) -> Tensor:
    """Mean over student layers of the distance to their chosen teacher layers.

    [Ls, N, D] and [Lt, N, D] from `prepare_features`; `mapping` [G, Ls] and the `group` (N,) of
    each position from `matching`. Sums over positions are divided by `count`.
    """
    layers, positions, width = student.shape
    chosen = mapping[group].T * positions + torch.arange(positions, device=group.device)
    taught = teacher.reshape(-1, width).index_select(0, chosen.flatten())
    return (student.flatten(0, 1) - taught).square().sum() / (count * layers)
