"""What is said in an audio file of any length, in the memory of one window."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.faults import AudioFault
from espnet_dq.data.pieces import pieces
from espnet_dq.data.unfit import sounding
from espnet_dq.decode import guard, halves
from espnet_dq.errors import WorkError
from espnet_dq.runtimes.interface import (
    Runtime,
    Segment,
    failures,
    heard,
    sets_times,
    written,
)

# `Runtime.detect` gives clips of speech 0.38 at least, 0.26 behind 20 s of silence; noise, hum,
# clicks, a tone and a tune 0.19 at most (base and tiny; 8 clips in 5 languages, 11 other sounds).
SURE = 0.5
BEAM = 5  # as faster-whisper's and openai-whisper's own commands (docs/results.md)
Blocks = Iterable[tuple[int, np.ndarray]]  # first sample, samples float32 at 16 kHz


def sounds(parts: Blocks) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces without the silence at their ends; in silence, models say what nobody said."""
    yield from _within(parts, sounding)


def speech(parts: Blocks) -> Iterator[tuple[int, np.ndarray]]:
    """Pieces from where somebody begins to speak to where the last one ends, by Silero's model.

    With faster-whisper's settings: 0.4 s more at both ends. Pauses between stay.
    """
    from faster_whisper.vad import get_speech_timestamps  # imports onnxruntime

    def where(audio: np.ndarray) -> tuple[int, int]:
        found = get_speech_timestamps(audio)
        return (found[0]["start"], found[-1]["end"]) if found else (0, 0)

    yield from _within(parts, where)


def _within(
    parts: Blocks, where: Callable[[np.ndarray], tuple[int, int]]
) -> Iterator[tuple[int, np.ndarray]]:
    for start, audio in parts:
        first, last = where(audio)
        if last:
            yield start + first, audio[first:last]


def transcribe(
    runtime: Runtime,
    path: Path | str,
    language: str | None,
    timestamps: bool,
    damage: Callable[[str], None] | None = None,
    detected: Callable[[str | None, float], None] = lambda *_: None,
    channel: int | None = None,
    vad: bool = False,
    guarded: bool = True,
) -> Iterator[Segment]:
    """Segments of a file, as they come, in order and with times from its beginning.

    The audio is read as it is needed, in pieces of the runtime's window, and each is decoded by
    itself: they are cut at pauses, so that no word is in two, and an error in one stays there. One
    whose text is longer than the decoder has room for is decoded in two, and one that cannot have
    been said is tried again or cut (`espnet_dq.decode.guard`), unless it is not to be `guarded`.
    What does not rise above -70 dB says nothing. A segment without text tells what the guard did.

    Args:
        runtime: what decodes, see `load_runtime`.
        path: an audio file.
        language: code; None: that of `spoken_language`.
        timestamps: cut by the model's own timestamps; otherwise a piece is a segment.
        damage: takes a line for each damaged spot, which is passed over; None: it is an error.
        detected: takes what `spoken_language` found.
        channel: the only one that is heard, from 0; None: the mean of all.
        vad: whether pieces in which nobody speaks (`speech`) say nothing, and others are heard from
            the first speech to the last.

    Raises:
        InputError: as in `read_apart`, possibly after some segments.
        WorkError: the runtime failed.
    """
    cut = speech if vad else sounds
    try:
        if language is None:
            language, probability = spoken_language(runtime, path, channel, cut)
            detected(language, probability)
        if language:
            parts = pieces(read_apart(path, channel, damage), runtime.window)
            yield from transcribe_pieces(runtime, parts, language, timestamps, guarded, cut)
    except WorkError as e:
        raise WorkError(f"{path}: {e}") from e


def spoken_language(
    runtime: Runtime,
    path: Path | str,
    channel: int | None = None,
    cut: Callable[[Blocks], Blocks] = sounds,
) -> tuple[str | None, float]:
    """The language of a file, and how probable it is that it is spoken in it (see `SURE`).

    That of the first piece that is surely speech, or else of the one that is most probably; None
    if there is no sound in the file at all.

    Raises:
        InputError: as in `read_apart`, unless something was heard before.
    """
    best: tuple[str | None, float] = None, 0.0
    try:
        blocks = read_apart(path, channel, lambda _: None)  # `transcribe` tells of it
        for _, audio in cut(pieces(blocks, runtime.window)):
            if len(runtime.languages) == 1:
                return next(iter(runtime.languages)), 1.0
            with failures():
                found = runtime.detect(heard(audio))
            if best[0] is None or found[1] > best[1]:
                best = found
            if best[1] >= SURE:
                break
    except AudioFault:
        if best[0] is None:
            raise
    return best


def transcribe_pieces(
    runtime: Runtime,
    parts: Blocks,
    language: str,
    timestamps: bool,
    guarded: bool = True,
    cut: Callable[[Blocks], Blocks] = sounds,
) -> Iterator[Segment]:
    """`transcribe` of audio in pieces: first sample of each, and its samples, float32 at 16 kHz.

    A segment without text tells what the guard did; there is none unless it is `guarded`.

    The model sets timestamps even where they are not asked for, as openai-whisper and
    faster-whisper let it: without them a beam may end behind the first of several sentences.
    """
    timed = timestamps or sets_times(runtime)
    clip = guard.transcribe if guarded else halves.transcribe
    for start, audio in cut(parts):
        offset, length = start / SAMPLE_RATE, len(audio) / SAMPLE_RATE
        found, text_in = clip(runtime, audio, language, timed), written(runtime, language)
        if not timestamps:
            said, words = guard.joined(found, text_in), tuple(w for s in found for w in s.words)
            words = () if said.guard == "cut" else words
            found = [Segment(0.0, length, said.text, said.limit, said.guard, words=words)]
        for segment in found:
            if segment.text or segment.guard:
                # A model hears a window that is full, and may set a time behind the end.
                yield replace(segment.moved(offset, length), language=text_in)
