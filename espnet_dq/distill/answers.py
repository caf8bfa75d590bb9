"""What the teacher says of a batch: asked now, or read from stage 4's cache.

Both give the KL term and the hidden states at the counted positions.
"""

import torch
from torch import Tensor

from espnet_dq.distill.losses import kl_divergence, topk_kl_divergence
from espnet_dq.distill.sequences import Sequences
from espnet_dq.errors import InputError
from espnet_dq.whisper.forward import SAMPLE_RATE


class LiveAnswers:
    """Of a teacher asked about this batch: logits (N, V), and states, (B, T, D) each layer."""

    def __init__(self, logits: Tensor, states: list[Tensor]):
        self.logits, self.states = logits, states

    def kl(self, student: Tensor, temperature: float, count: int) -> Tensor:
        """The KL term of student logits (N, V), over `count`."""
        return kl_divergence(student, self.logits, temperature, count)

    def hidden(self, seq: Sequences, layers: int) -> Tensor:
        """States (layers, N, D) at the counted positions."""
        return torch.stack([seq.select(s)[seq.counted] for s in self.states])


def encoder_kind(samples: int, own: int) -> str:
    """What a cache calls the encoder's output in windows of `samples`; `own`: of the model."""
    return "encoder_out" if samples == own else f"encoder_out_{samples / SAMPLE_RATE:g}"


class CachedAnswers:
    """Of a teacher that was asked before: the batch's entries, see `distill.cache`."""

    @classmethod
    def of(cls, cached: dict[str, Tensor]) -> "CachedAnswers | None":
        """The answers among a batch's further entries; None if there are none."""
        return cls(cached) if "teacher_ids" in cached else None

    def __init__(self, cached: dict[str, Tensor]):
        self.cached = cached

    def _flat(self, name: str) -> Tensor:
        values, lengths = self.cached[name], self.cached[f"{name}_lengths"]
        kept = torch.arange(values.shape[1], device=values.device) < lengths[:, None]
        return values[kept]

    def kl(self, student: Tensor, temperature: float, count: int) -> Tensor:
        """The same from the likeliest tokens alone, see `topk_kl_divergence`."""
        ids, log_p = self._flat("teacher_ids"), self._flat("teacher_log_probs")
        return topk_kl_divergence(student, ids.long(), log_p, temperature, count)

    def hidden(self, seq: Sequences, layers: int) -> Tensor:
        """States (layers, N, D) at the counted positions; `InputError` if none were kept."""
        if "teacher_hidden" not in self.cached:
            raise InputError("the cache holds no hidden states: run stage 4 for this tap")
        states = self._flat("teacher_hidden")[seq.counted]
        return states.unflatten(1, (layers, -1)).transpose(0, 1)
