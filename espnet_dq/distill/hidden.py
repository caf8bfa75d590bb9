"""The hidden term: student layers learn from the teacher layers that are chosen for them.

Source: DQ-Whisper (arXiv 2305.10788). The decoder's states and the encoder's go through the same
steps: project, put on the distance's scale, choose pairs, compare.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_dq.distill.losses import hidden_loss, pair_distances, prepare_features
from espnet_dq.distill.matching import groups, match, spaced
from espnet_dq.distill.projector import Projector

# `lambda_hidden: auto` makes the term's gradient this part of the KL term's, once.
GRADIENT_PART = 0.3


@dataclass(frozen=True)
class HiddenTerm:
    """How layers are compared and chosen; see `DQWhisperModel` for the words."""

    matching: str
    scope: str
    normalization: str
    distance: str
    temperature: float

    def __call__(
        self,
        projector: Projector,
        student: Tensor,
        teacher: Tensor,
        rows: Tensor,
        language: Tensor,
        count: int,
        fit: bool,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, the mappings [G, Ls] and the groups' keys (G,), see `matching.groups`.

        `student` [Ls, N, D] and `teacher` [Lt, N, D'] are states at N positions, of which those of
        utterance b of the batch have `rows` b; `language` (B,); sums are divided by `count`. With
        `fit` the projector may still take this batch into its start. `weights` (N,) of the
        positions, 1 unless given.
        """
        raw = student.detach().float()
        student = prepare_features(student, self.distance, self.temperature)
        with torch.autocast(raw.device.type, enabled=False):
            if fit and projector.fitting:
                # P maps to what the distance takes in: it normalises once more by itself.
                if self.distance != "softmax_mse":
                    raw = F.layer_norm(raw, raw.shape[-1:])
                projector.fit(teacher[spaced(len(student), len(teacher))], raw)
            teacher = prepare_features(projector(teacher), self.distance, self.temperature)
            if weights is not None:  # |s - t|^2 * weight, for the choice and for the loss
                root = weights.sqrt()[None, :, None]
                student, teacher = student * root, teacher * root
            group, keys = groups(self.scope, rows, language)
            with torch.no_grad():
                distances = pair_distances(student, teacher, group, len(keys))
        mapping = match(self.matching, distances, self.normalization)
        return hidden_loss(student, teacher, mapping, group, count), mapping, keys


def gradient_ratio(hidden: Tensor, kl: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """`GRADIENT_PART` * |d kl| / |d hidden|: the hidden term's weight, the same in all processes.

    Norms over the `parameters` that need gradients, before anything else is done with the graph.
    """

    def norm(loss: Tensor) -> Tensor:
        given = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return torch.stack([g.float().square().sum() for g in given if g is not None]).sum().sqrt()

    squares = torch.stack([norm(kl), norm(hidden)])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(squares)
    return GRADIENT_PART * squares[0] / squares[1].clamp(min=torch.finfo(squares.dtype).tiny)
