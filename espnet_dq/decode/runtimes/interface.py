"""What every runtime offers, and what they share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.spelling import SPACELESS as SPACELESS

if TYPE_CHECKING:
    from torch import Tensor

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
        window: seconds of audio that the model hears at a time, and a clip has at most.
    """

    compute_type: str
    options: dict
    languages: frozenset[str]
    threads: int
    workers: int
    batch: int
    window: float

    def decode(self, clips: list[np.ndarray], language: str) -> list[str]:
        """Text of each clip, (samples,) float32 at 16 kHz, of a window at most, in one language."""

    def transcribe(
        self, audio: np.ndarray, language: str | None, timestamps: bool
    ) -> tuple[str, list[Segment]]:
        """Language (detected if not given) and segments of a clip.

        With `timestamps` the model's timestamp tokens cut it into segments, and what makes a model
        stop too early or go round in circles is tried again, as in openai-whisper's `transcribe`;
        otherwise it is decoded as in `decode`.
        """


def log_mel(audio: np.ndarray, n_mels: int) -> "Tensor":
    """Log-mel features (n_mels, frames) float32 of audio, as whisper.transcribe makes them."""
    import whisper

    mel = whisper.log_mel_spectrogram(audio, n_mels, padding=whisper.audio.N_SAMPLES)
    return mel[:, : mel.shape[-1] - whisper.audio.N_FRAMES]


def window(audio: np.ndarray, n_mels: int, frames: int = 3000, padding: str = "zeros") -> "Tensor":
    """Features of a clip in a window (30 s unless told otherwise), (n_mels, frames) float32.

    The rest of the window is filled as `padding` says, see `espnet_dq.whisper.forward`.
    """
    import whisper
    from whisper.audio import N_FRAMES, N_SAMPLES, pad_or_trim

    mel = whisper.log_mel_spectrogram(audio, n_mels, padding=N_SAMPLES)
    heard = mel.shape[-1] - N_FRAMES
    if heard > frames:
        raise ValueError(f"a clip of {heard} frames for a window of {frames}")
    return pad_or_trim(mel[:, :heard] if padding == "zeros" else mel, frames)


def whole(audio: np.ndarray, text: str) -> list[Segment]:
    """A clip's text as its only segment; none if there is no text."""
    return [Segment(0.0, len(audio) / SAMPLE_RATE, text)] if text else []


def join(texts: Iterable[str], space: str = " ") -> str:
    """Segments' texts as one line."""
    return space.join(filter(None, (" ".join(text.split()) for text in texts)))


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
