"""What the teacher says of a batch: asked now, or read from stage 4's cache.

Live training and the cache ask by the same `TeacherPass`. Both kinds of answers give the KL term
and the hidden states at the counted positions.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from whisper.tokenizer import Tokenizer

from espnet_dq.distill.losses import kl_divergence, topk_kl_divergence
from espnet_dq.distill.teacher import Teacher
from espnet_dq.errors import InputError
from espnet_dq.whisper.forward import SAMPLE_RATE, products
from espnet_dq.whisper.sequences import Sequences, has_timestamps


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


class CachedAnswers:
    """Of a teacher that was asked before: the batch's entries, see `distill.cache`."""

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


@dataclass
class TeacherPass:
    """A batch before the teacher, who hears it when first asked, and once.

    Attributes:
        teacher: who answers; without one there are no timestamps, and nothing else to ask.
        speech, lengths: (B, L) float at 16 kHz, (B,).
        samples: the teacher's window.
        precision: of its matrix products.
        tap: of the decoder's states that are wanted, if any are.
        tapped: whether the states of the encoder's blocks are wanted.
        cached: what stage 4 has kept of the batch.
    """

    teacher: Teacher | None
    speech: Tensor
    lengths: Tensor
    samples: int
    precision: str
    tap: str | None
    tapped: bool = False
    cached: dict[str, Tensor] = field(default_factory=dict)

    def _products(self) -> AbstractContextManager:
        return products(self.speech.device, self.precision)  # whoever asks, and when

    @cached_property
    def heard(self) -> tuple[Tensor, list[Tensor]]:
        """Encoder output (B, P, D) and, if `tapped`, each block's."""
        with self._products():
            return self.teacher.hear(self.speech, self.lengths, self.samples, self.tapped)

    def ends(
        self,
        names: Sequence[str],
        share: float,
        text: Tensor,
        text_lengths: Tensor,
        language: Tensor,
        tokenizer: Tokenizer,
    ) -> Tensor:
        """Closing timestamp tokens (B,), -1 for all but a `share` of the utterances' names.

        Text tokens (B, T) with lengths (B,), language tokens (B,).
        """
        if "teacher_end" in self.cached:
            return self.cached["teacher_end"][:, 0]
        timed = torch.tensor([has_timestamps(name, share) for name in names])
        end = torch.full((len(names),), -1, device=text.device)
        if not timed.any() or self.teacher is None:
            return end
        timed = timed.to(text.device)
        with self._products():
            asked = self.teacher.end_timestamps(
                self.heard[0][timed], text[timed], text_lengths[timed], language[timed], tokenizer
            )
        return end.masked_scatter(timed, asked)

    def first_linears(self) -> list[Tensor]:
        """The first feed-forward weight, (4 D, D), of each layer of its decoder."""
        return self.teacher.first_linears(self.speech.device)

    def ask(self, seq: Sequences) -> LiveAnswers | CachedAnswers:
        """What it says at the selected positions."""
        if "teacher_ids" in self.cached:
            return CachedAnswers(self.cached)
        with self._products():
            hidden, states = self.teacher(self.heard[0], seq.inputs, self.tap)
            return LiveAnswers(self.teacher.logits(seq.select(hidden)), states)


def encoder_kind(samples: int, own: int) -> str:
    """What a cache calls the encoder's output in windows of `samples`; `own`: of the model."""
    return "encoder_out" if samples == own else f"encoder_out_{samples / SAMPLE_RATE:g}"
