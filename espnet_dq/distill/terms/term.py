"""What a term of the loss is, and what it sees of a batch."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn
from whisper.model import ModelDimensions
from whisper.tokenizer import Tokenizer

from espnet_dq.config import DistillConfig
from espnet_dq.distill.answers import CachedAnswers, LiveAnswers, TeacherPass
from espnet_dq.whisper.sequences import Sequences


@dataclass
class Step:
    """One batch, as the student and the teacher see it.

    Attributes:
        seq: token sequences; N of their positions are selected, and most of these counted.
        language: tokens (B,).
        speech_lengths: samples (B,).
        tokenizer: the student's.
        training: whether the student learns from it.
        decoder: the student's, openai-whisper's module.
        logits: the student's (N, V).
        states: of its decoder's layers, (B, T, W) each, if a term needs `states`.
        encoder_states: of its encoder's, (B, P, D) each, if a term needs `encoder_states`.
        first_linears: the first feed-forward weight, (4 D, D), of its decoder's layers as the
            forward pass used them, if a term needs `first_linears`.
        teacher: the teacher before this batch.
        losses: of the terms so far, by their names.
    """

    seq: Sequences
    language: Tensor
    speech_lengths: Tensor
    tokenizer: Tokenizer
    training: bool
    decoder: nn.Module
    logits: Tensor
    states: list[Tensor]
    encoder_states: list[Tensor]
    first_linears: list[Tensor]
    teacher: TeacherPass
    losses: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def count(self) -> int:
        """How many positions are counted."""
        return int(self.seq.counted.sum())

    @cached_property
    def rows(self) -> Tensor:
        """The utterance of each counted position."""
        return self.seq.rows[self.seq.counted]

    @cached_property
    def answers(self) -> LiveAnswers | CachedAnswers:
        """What the teacher says; it is asked when a term first wants to know."""
        return self.teacher.ask(self.seq)


class Term(ABC):
    """One term of the loss, beside cross-entropy: what the student learns from the teacher.

    A term of your own is a subclass with a `name` and a `__call__`, entered in
    `espnet_dq.distill.terms.TERMS`; a training gives it a weight with `terms: {NAME: WEIGHT}`.

    Attributes:
        name: in a configuration (`lambda_NAME`, or a key of `terms`) and in the statistics.
        place: what the trained part is called in the model, and so in checkpoints.
        needs: which fields of `Step` it reads that are else left empty: `states`,
            `encoder_states`, `first_linears`.
        config: how the student learns.
        part: what `build` has made.
    """

    name: ClassVar[str]
    place: ClassVar[str | None] = None
    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, config: DistillConfig, teacher: ModelDimensions, student: ModelDimensions
    ) -> None:
        self.config = config
        self.part = self.build(teacher, student)

    def build(self, teacher: ModelDimensions, student: ModelDimensions) -> nn.Module | None:
        """What only training has of it, a module for `place`."""
        return None

    @classmethod
    def wanted(cls, config: DistillConfig) -> bool:
        """Whether a training has this term."""
        return config.weight(cls.name) != 0

    @abstractmethod
    def __call__(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and further statistics by name."""

    def weight(self, step: Step) -> float | Tensor:
        """Against the KL term; `step.losses` holds this term's loss and those before it."""
        return self.config.weight(self.name)
