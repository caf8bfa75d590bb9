"""The hidden term: student layers learn from the teacher layers that are chosen for them.

Source: DQ-Whisper (arXiv 2305.10788). The decoder's states and the encoder's go through the same
steps: project, put on the distance's scale, choose pairs, compare.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_dq.config import DistillConfig
from espnet_dq.distill.losses import hidden_loss, pair_sums, prepare_features
from espnet_dq.distill.matching import groups, match, spaced
from espnet_dq.distill.projector import Projector
from espnet_dq.distill.similarity import linear_cka

# `lambda_hidden: auto` makes the term's gradient this part of the KL term's, once.
GRADIENT_PART = 0.3
GRADIENT_SCALE = 4096.0  # of both, while they are measured: in float16 small ones would be 0


@dataclass(frozen=True)
class LayerLoss:
    """How layers are compared and chosen."""

    config: DistillConfig

    def __call__(
        self,
        projector: Projector,
        student: Tensor,
        teacher: Tensor,
        rows: Tensor,
        language: Tensor,
        count: int,
        training: bool,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the mappings [G, Ls] and the groups' keys (G,), see `matching.groups`.

        `student` [Ls, N, D] and `teacher` [Lt, N, D'] are states at N positions, of which those of
        utterance b of the batch have `rows` b; `language` (B,); sums are divided by `count`. While
        `training` the projector may still take this batch into its start, and processes choose
        together: outside ESPnet may ask one alone (it plots attention in the first). `weights` (N,)
        of the positions, 1 unless given.
        """
        config, raw = self.config, student.detach().float()
        student = prepare_features(student, config.distance, config.temperature)
        with torch.autocast(raw.device.type, enabled=False):
            if training and projector.fitting:
                # P maps to what the distance takes in: it normalises once more by itself.
                if config.distance != "softmax_mse":
                    raw = F.layer_norm(raw, raw.shape[-1:])
                pairs = self._pairs(raw, teacher)
                projector.fit(teacher[pairs], raw)
            teacher = prepare_features(projector(teacher), config.distance, config.temperature)
            if weights is not None:  # |s - t|^2 * weight, for the choice and for the loss
                root = weights.sqrt()[None, :, None]
                student, teacher = student * root, teacher * root
            group, keys = groups(config.matching_scope, rows, language)
            with torch.no_grad():
                sums = pair_sums(student, teacher, group, len(keys))
                sizes = torch.bincount(group, minlength=len(keys))
                if training and distributed() and config.matching_scope != "utterance":
                    sums, sizes = _over_processes(sums, sizes, keys)
                distances = sums / sizes[:, None, None]
        mapping = match(config.matching, distances, config.matching_normalization)
        return hidden_loss(student, teacher, mapping, group, count), mapping, keys

    def _pairs(self, student: Tensor, teacher: Tensor) -> Tensor | list[int]:
        """The teacher layer of each student layer that the projector is to start from.

        What it is fitted on is what it makes near, and so what is chosen afterwards. Where there is
        a choice, layers are therefore compared without it.
        """
        if self.config.matching == "static":
            return spaced(len(student), len(teacher))
        unlike = 1 - linear_cka(student, teacher)
        return match(self.config.matching, unlike[None], self.config.matching_normalization)[0]


def distributed() -> bool:
    """Whether other processes train on other parts of the batch."""
    return dist.is_available() and dist.is_initialized()


def _over_processes(sums: Tensor, sizes: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Sums [G, Ls, Lt] and sizes (G,) of groups, each over the processes that have its key."""
    others: list[list[int]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(others, keys.tolist())
    known = sorted(set().union(*others))
    place = torch.tensor([known.index(k) for k in keys.tolist()], device=sums.device)
    table = sums.new_zeros(len(known), *sums.shape[1:]).index_copy(0, place, sums)
    counts = sums.new_zeros(len(known)).index_copy(0, place, sizes.to(sums.dtype))
    dist.all_reduce(table)
    dist.all_reduce(counts)
    return table[place], counts[place]


def gradient_ratio(
    hidden: Tensor, kl: Tensor, count: int, parameters: list[nn.Parameter]
) -> Tensor:
    """`GRADIENT_PART` * |d kl| / |d hidden|: the hidden term's weight.

    Gradients by the `parameters`, of the whole batch in all processes, of which this one's part
    has `count` positions; to be asked before the graph is gone. NaN: not to be measured here.
    """

    def norm(loss: Tensor) -> Tensor:
        given = torch.autograd.grad(
            GRADIENT_SCALE * loss,
            parameters,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        whole = torch.cat([g.float().flatten() for g in given]) * count
        if distributed():
            dist.all_reduce(whole)
        return whole.norm()

    ratio = GRADIENT_PART * norm(kl) / norm(hidden)
    # Of gradients too large for float32, or of none of the KL term, it would be 0 for good.
    return torch.where(ratio.isfinite() & (ratio > 0), ratio, torch.nan)
