"""What is said in an audio file of any length, in the memory of one window."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.data.apart import read_apart
from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.pieces import pieces
from espnet_dq.decode.runtimes.interface import Runtime, Segment


def transcribe(
    runtime: Runtime,
    path: Path | str,
    language: str | None,
    timestamps: bool,
    damage: Callable[[str], None] | None = None,
) -> Iterator[Segment]:
    """Segments of a file, as they come, in order and with times from its beginning.

    The audio is read as it is needed, in pieces of the runtime's window, and each is decoded by
    itself: they are cut at pauses, so that no word is in two, and an error in one stays there.

    Args:
        runtime: what decodes, see `load_runtime`.
        path: an audio file.
        language: code, or None: detected in the first piece in which something is said.
        timestamps: cut by the model's own timestamps; otherwise a piece is a segment.
        damage: takes a line for each damaged spot, which is passed over; None: it is an error.

    Raises:
        InputError: as in `read_apart`, possibly after some segments.
    """
    return transcribe_pieces(
        runtime, pieces(read_apart(path, damage=damage), runtime.window), language, timestamps
    )


def transcribe_pieces(
    runtime: Runtime,
    parts: Iterable[tuple[int, np.ndarray]],
    language: str | None,
    timestamps: bool,
) -> Iterator[Segment]:
    """`transcribe` of audio in pieces: first sample of each, and its samples, float32 at 16 kHz."""
    for start, audio in parts:
        offset, length = start / SAMPLE_RATE, len(audio) / SAMPLE_RATE
        detected, segments = runtime.transcribe(audio, language, timestamps)
        segments = [segment for segment in segments if segment.text]
        if segments:
            language = detected
        for segment in segments:
            # A model hears a window that is full, and may set a time behind the end.
            begin, end = (offset + min(t, length) for t in (segment.start, segment.end))
            yield replace(segment, start=begin, end=end)
