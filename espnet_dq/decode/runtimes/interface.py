"""What every runtime offers, and what they share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

WINDOW = 30.0  # seconds


@dataclass(frozen=True)
class Segment:
    """A piece of a transcript; times in seconds from the beginning of the audio."""

    start: float
    end: float
    text: str


class Runtime(Protocol):
    """What a runtime offers.

    Attributes:
        compute_type: the type that matrix products really run in (`float32`, `int8_float32`).
        options: all that decides the text, for the records.
        languages: codes that the model knows.
        threads: CPU threads in all.
        workers: how many threads may call `decode` at a time.
        batch: how many clips one call of `decode` takes at most.
    """

    compute_type: str
    options: dict
    languages: frozenset[str]
    threads: int
    workers: int
    batch: int

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        """Text of each clip, (samples,) float32 at 16 kHz, all in one language."""

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        """Language (detected if not given) and segments of audio of any length.

        With `timestamps`, or when the audio is longer than a window, the model's timestamp
        tokens cut it into segments; otherwise it is decoded as in `decode`.
        """


def join(texts: Iterable[str]) -> str:
    """Segments' texts as one line."""
    return " ".join(filter(None, (text.strip() for text in texts)))


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
