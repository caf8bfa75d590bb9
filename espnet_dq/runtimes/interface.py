"""What every runtime offers, and what they share."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from espnet_dq.config import WindowConfig
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.texts import as_said, repetition
from espnet_dq.errors import DQError, InputError, WorkError, first_line, no_memory

if TYPE_CHECKING:
    from torch import Tensor

WINDOW = 30.0  # seconds
# How much a runtime hears at a time: the model's whole window; as little as a clip needs; or that
# where the model was trained for it.
CONTEXTS = ("full", "short", "auto")
TASKS = ("transcribe", "translate")  # the latter into English
MARGIN = 3.0  # seconds of silence behind the sound of a short window, at least (docs/results.md)
FRAMES = 100  # log-mel frames a second
LEAST = 0.1  # seconds: of less whisper.cpp says nothing, and faster-whisper has no times of words
BATCH = 8  # clips at a time, where more of them are faster
# whisper.transcribe's rules for a window that was decoded badly, and its temperatures.
NO_SPEECH, LOGPROB, COMPRESSION = 0.6, -1.0, 2.4
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SEED = 0  # of what is drawn at a temperature: a file has the same text every time
# What the decoder's last position did to a text: nothing, it was decoded in two, or it ends there.
Limit = Literal["", "in two", "cut"]
LIMITS: tuple[Limit, ...] = get_args(Limit)[1:]  # those that are told of
# What `espnet_dq.decode.guard` did to a text that cannot have been said: it is another attempt's,
# or what of it can have been. Of several, max() is the worse.
Guard = Literal["", "again", "cut"]
GUARD: tuple[Guard, ...] = get_args(Guard)[1:]


class _Said:
    """Something with a `text` of a model's, which is `as_said` whatever the runtime."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", as_said(self.text))


@dataclass(frozen=True)
class Hypothesis(_Said):
    """The text of a clip."""

    text: str
    limit: Limit = ""
    guard: Guard = ""


@dataclass(frozen=True)
class Word(_Said):
    """A word of a segment, its punctuation with it; seconds as there, and how probable it is."""

    start: float
    end: float
    text: str
    probability: float


@dataclass(frozen=True)
class Segment(_Said):
    """A piece of a transcript; times in seconds from the beginning of the audio.

    `language` is that of the text, Whisper's code, where it is of a file
    (`espnet_dq.decode.transcribe`); `words` are there if the runtime was asked for them, and the
    guard has cut nothing.
    """

    start: float
    end: float
    text: str
    limit: Limit = ""
    guard: Guard = ""
    language: str = ""
    words: tuple[Word, ...] = ()

    def moved(self, offset: float, length: float) -> "Segment":
        """As it lies in a longer recording: `offset` seconds later, cut at `length` seconds."""
        words = tuple(
            replace(w, start=offset + min(w.start, length), end=offset + min(w.end, length))
            for w in self.words
        )
        start, end = (offset + min(t, length) for t in (self.start, self.end))
        return replace(self, start=start, end=end, words=words)


class Runtime(Protocol):
    """What a runtime offers; made as `Class(path, threads, nj, beam_size)`, see `load_runtime`.

    Attributes:
        compute_type: the type that matrix products really run in (`float32`, `int8_float32`).
        options: all that decides the text, for the records.
        languages: codes that the model knows.
        threads: CPU threads in all.
        workers: how many threads may call `decode` at a time.
        batch: how many clips one call of `decode` takes at most.
        window: seconds of audio that the model hears at a time, and a clip has at most.
        most_tokens: how many the decoder writes for a clip at most; a text of so many is cut.
        any_window: whether the model says that it was trained in windows of every length.
        short: whether it hears windows as short as its clips allow (`short_frames`).
        task: one of `TASKS`.
        words: whether `transcribe` tells times and probabilities of words.
        timed: whether it can set timestamps; without the attribute it can.
        prompt: what the model takes for said before each window, such as names and how they are
            spelled; empty: nothing.

    `load_runtime` sets the last four. A runtime without one of these attributes, or with None,
    cannot do that.
    """

    compute_type: str
    options: dict
    languages: frozenset[str]
    threads: int
    workers: int
    batch: int
    window: float
    most_tokens: int
    any_window: bool
    short: bool
    task: str
    words: bool | None
    timed: bool
    prompt: str | None

    def decode(self, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
        """Text of each clip, (samples,) float32 at 16 kHz, of a window at most, in one language."""

    def detect(self, audio: np.ndarray) -> tuple[str, float]:
        """The likeliest language of a clip, and how probable it is that it is spoken in it.

        The rest is for other languages and for no speech at all: what the model expects behind
        `<|startoftranscript|>`. Of a runtime with more than one language.
        """

    def transcribe(
        self,
        audio: np.ndarray,
        language: str,
        timestamps: bool,
        temperatures: tuple[float, ...] = TEMPERATURES,
    ) -> list[Segment]:
        """Segments of a clip; with `timestamps` cut by the model's timestamp tokens.

        What makes a model stop too early or go round in circles is tried again at random, as in
        openai-whisper's `transcribe`: at one of the `temperatures` after the other. The same clip
        has the same text every time.
        """


@dataclass(frozen=True)
class Attempt(_Said):
    """What a model said of a window: its text, the mean log-probability of its tokens, how
    probable it is that nobody speaks, and whether the text ends where the decoder does."""

    text: str
    logprob: float
    no_speech: float
    limit: Limit = ""

    @property
    def silent(self) -> bool:
        """Whether nobody speaks."""
        return self.no_speech > NO_SPEECH and self.logprob <= LOGPROB

    @property
    def circling(self) -> bool:
        """Whether it goes round in circles."""
        return repetition(self.text) > COMPRESSION

    @property
    def said(self) -> Hypothesis:
        """The text; none of silence."""
        return Hypothesis("") if self.silent else Hypothesis(self.text, self.limit)


def settle(
    attempt: Callable[[float], Attempt], temperatures: tuple[float, ...] = TEMPERATURES
) -> Hypothesis:
    """The text of a window, tried at one temperature after the other until nothing is wrong.

    If all fail it is that of the likeliest attempt, if possible one that does not go round in
    circles (faster-whisper's rule); of openai-whisper's it would be the last. One that is cut at
    the decoder's end is not tried again for that: `espnet_dq.decode.halves` decodes it in two.
    """
    attempts = []
    for temperature in temperatures:
        found = attempt(temperature)
        if found.silent or (not found.circling and found.logprob >= LOGPROB):
            return found.said
        attempts.append(found)
    straight = [found for found in attempts if not found.circling]
    return max(straight or attempts, key=lambda found: found.logprob).said


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


def short_frames(heard: int, most: int) -> int:
    """Frames of the window for so many log-mel frames of sound, `most` at most.

    Whole seconds, so that few lengths occur: some runtimes plan anew for each.
    """
    seconds = -(-(heard + MARGIN * FRAMES) // FRAMES)
    return min(int(seconds) * FRAMES, most)


def window_frames(clip: np.ndarray, most: int, short: bool) -> int:
    """Log-mel frames of the window of a clip: `most`, or maybe fewer if it is to be `short`."""
    return short_frames(-(-len(clip) * FRAMES // SAMPLE_RATE), most) if short else most


def in_windows(
    clips: list[np.ndarray],
    most: int,
    short: bool,
    attempt: Callable[[list[np.ndarray], int], list[Attempt]],
) -> list[Hypothesis]:
    """What clips say, each in a window as long as it needs itself.

    So what a clip says does not depend on those that are decoded with it. `attempt` takes clips and
    the frames of their window.
    """
    numbers: dict[int, list[int]] = {}
    for number, clip in enumerate(clips):
        numbers.setdefault(window_frames(clip, most, short), []).append(number)
    said: dict[int, Hypothesis] = {}
    for frames, of in numbers.items():
        found = attempt([clips[number] for number in of], frames)
        said |= {number: each.said for number, each in zip(of, found, strict=True)}
    return [said[number] for number in range(len(clips))]


def sounding_frames(mel) -> int:
    """Log-mel frames (..., n_mels, frames) of an array or a tensor before the zeros that fill it.

    What a runtime's own loop fills its windows with; no sound makes all bands of a frame zero.
    """
    bands = tuple(range(mel.ndim - 1))
    heard = np.flatnonzero(np.asarray(mel).any(axis=bands))
    return int(heard[-1]) + 1 if len(heard) else 0


def written(runtime: Runtime, language: str) -> str:
    """The language that is written where `language` is spoken."""
    return "en" if getattr(runtime, "task", "") == "translate" else language


def sets_times(runtime: Runtime) -> bool:
    """Whether the model sets timestamps: those of its own tokens are for windows of 30 s."""
    return runtime.window == WINDOW and getattr(runtime, "timed", True)


def check_times(runtime: Runtime) -> None:
    """Raise `InputError` for a runtime that sets no timestamps of this model's."""
    if not getattr(runtime, "timed", True):
        raise InputError(
            "timestamps: this runtime has none of this model: convert it for another one "
            "(docs/students.md)"
        )


def whole(audio: np.ndarray, said: Hypothesis) -> list[Segment]:
    """A clip's text as its only segment; none if there is no text."""
    return [Segment(0.0, len(audio) / SAMPLE_RATE, said.text, said.limit)] if said.text else []


def windows_cut(lengths: Iterable[tuple[int, int]], room: int) -> set[int]:
    """Windows whose text is cut, by (window, tokens) of each segment.

    A text of `room` tokens has no end. Where segments behind the last timestamp were given up, to
    be decoded again from there, less is left of it, and nothing is lost.
    """
    counts: Counter[int] = Counter()
    for window, count in lengths:
        counts[window] += count
    return {window for window, count in counts.items() if count >= room}


def worst(limits: Iterable[Limit]) -> Limit:
    """What is to be said of a text whose parts met these limits."""
    return max(limits, key=("", *LIMITS).index, default="")


def heard(clip: np.ndarray) -> np.ndarray:
    """A clip, with silence behind it if it is shorter than every runtime takes it."""
    return np.pad(clip, (0, max(0, round(LEAST * SAMPLE_RATE) - len(clip))))


@contextmanager
def failures() -> Iterator[None]:
    """What a runtime raises in it becomes a `WorkError`; no memory is the machine's, and stays."""
    try:
        yield
    except DQError:
        raise
    except Exception as e:  # libraries raise what they like
        if no_memory(e):
            raise
        raise WorkError(f"{type(e).__name__}: {first_line(e)}") from e


def check_files(path: Path, names: Iterable[str], form: str) -> None:
    """Raise `InputError` unless a folder has all that a runtime needs beside its weights.

    What others publish or convert may lack some of it; what we write in format `form` does not.
    """
    for name in names:
        if not (path / name).is_file():
            raise InputError(f"{path}: {name} is missing: {remedy(path, form)}")


def remedy(path: Path, form: str) -> str:
    """How a folder gets what it lacks, for a message."""
    return f"espnet-dq convert --from {path} --to {form} writes a folder that has it"
