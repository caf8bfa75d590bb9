"""What every runtime offers, and what they share."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from espnet_dq.config import WindowConfig
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.spelling import SPACELESS as SPACELESS

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 30.0  # seconds
# whisper.transcribe's rules for a window that was decoded badly, and its temperatures.
NO_SPEECH, LOGPROB, COMPRESSION = 0.6, -1.0, 2.4
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEED = 0  # of what is drawn at a temperature: a file has the same text every time


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

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        """The likeliest language of a clip, and how probable it is that it is spoken in it.

        The rest is for other languages and for no speech at all: what the model expects behind
        `<|startoftranscript|>`. Of a runtime with more than one language.
        """

    def transcribe(self, audio: np.ndarray, language: str, timestamps: bool) -> list[Segment]:
        """Segments of a clip; with `timestamps` cut by the model's timestamp tokens.

        What makes a model stop too early or go round in circles is tried again at random, as in
        openai-whisper's `transcribe`; the same clip has the same text every time.
        """


@dataclass(frozen=True)
class Attempt:
    """What a model said of a window: its text, the mean log-probability of its tokens, and how
    probable it is that nobody speaks."""

    text: str
    logprob: float
    no_speech: float

    @property
    def silent(self) -> bool:
        """Whether nobody speaks."""
        return self.no_speech > NO_SPEECH and self.logprob <= LOGPROB

    @property
    def circling(self) -> bool:
        """Whether it goes round in circles."""
        text = self.text.encode()
        return len(text) > COMPRESSION * len(zlib.compress(text))


def settle(attempt: Callable[[float], Attempt]) -> str:
    """The text of a window, tried at one temperature after the other until nothing is wrong.

    If all fail it is that of the likeliest attempt, if possible one that does not go round in
    circles (faster-whisper's rule); of openai-whisper's it would be the last.
    """
    attempts = []
    for temperature in TEMPERATURES:
        found = attempt(temperature)
        if found.silent:
            return ""
        if not found.circling and found.logprob >= LOGPROB:
            return found.text
        attempts.append(found)
    straight = [found for found in attempts if not found.circling]
    return max(straight or attempts, key=lambda found: found.logprob).text


@contextmanager
def seeded() -> Iterator[None]:
    """What torch draws in it is the same every time."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        yield


def log_mel(audio: np.ndarray, n_mels: int) -> "Tensor":
    """Log-mel features (n_mels, frames) float32 of audio, as whisper.transcribe makes them."""
    import whisper

    mel = whisper.log_mel_spectrogram(audio, n_mels, padding=whisper.audio.N_SAMPLES)
    return mel[:, : mel.shape[-1] - whisper.audio.N_FRAMES]


def window(
    audio: np.ndarray, n_mels: int, frames: int = 3000, padding: str = WindowConfig.padding
) -> "Tensor":
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
