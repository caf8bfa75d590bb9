"""Texts that cannot have been said, tried again at random and, where that does not help, cut.

One rule for every runtime (`espnet_dq.data.sayable`): it needs the text, the sound, and whether the
text ends where the decoder does. What it does not object to is as the runtime said it.
"""

from dataclasses import replace

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.sayable import unsaid, without
from espnet_dq.data.texts import between, join
from espnet_dq.data.unfit import sounding_seconds
from espnet_dq.decode import halves
from espnet_dq.runtimes.interface import (
    TEMPERATURES,
    Hypothesis,
    Runtime,
    Segment,
    whole,
    worst,
    written,
)


def decode(runtime: Runtime, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
    """As `halves.decode`, with the guard."""
    said = halves.decode(runtime, clips, language)
    for number, (clip, found) in enumerate(zip(clips, said, strict=True)):
        segments = _guarded(runtime, clip, language, False, whole(clip, found))
        if any(segment.guard for segment in segments):
            said[number] = joined(segments, written(runtime, language))
    return said


def transcribe(
    runtime: Runtime, audio: np.ndarray, language: str, timestamps: bool
) -> list[Segment]:
    """As `halves.transcribe`, with the guard; with no text at all a segment says what it did."""
    found = halves.transcribe(runtime, audio, language, timestamps)
    return _guarded(runtime, audio, language, timestamps, found)


def joined(segments: list[Segment], language: str) -> Hypothesis:
    """Segments of a clip as its one text, with what is to be said of them."""
    text = join((segment.text for segment in segments), language)
    guard = max((segment.guard for segment in segments), default="")
    return Hypothesis(text, worst(segment.limit for segment in segments), guard)


def _guarded(
    runtime: Runtime, audio: np.ndarray, language: str, timestamps: bool, found: list[Segment]
) -> list[Segment]:
    """`found`, or else the first attempt at higher temperatures that can have been said, or else
    what of `found` can have been."""
    seconds = sounding_seconds(audio)
    text_in = written(runtime, language)
    mended = _mended(found, seconds, text_in)
    if mended is found:
        return found
    nothing = Segment(0.0, len(audio) / SAMPLE_RATE, "")
    for first in range(1, len(TEMPERATURES)) if seconds else ():
        again = halves.transcribe(runtime, audio, language, timestamps, TEMPERATURES[first:])
        if _mended(again, seconds, text_in) is again:
            return [replace(segment, guard="again") for segment in again or [nothing]]
    return mended or [replace(nothing, guard="cut")]


def _mended(segments: list[Segment], seconds: float, language: str) -> list[Segment]:
    """Segments without what cannot have been said in them together; the same if there is none."""
    space, endless = between(language), any(segment.limit == "cut" for segment in segments)
    gone = unsaid(space.join(segment.text for segment in segments), seconds, endless)
    if not gone:
        return segments
    mended: list[Segment] = []
    start = 0
    for segment in segments:
        inside = [(max(a - start, 0), min(b - start, len(segment.text))) for a, b in gone]
        text = without(segment.text, inside := [(a, b) for a, b in inside if a < b])
        if not inside:
            mended.append(segment)
        elif text:
            mended.append(replace(segment, text=text, guard="cut", words=()))
        elif mended:  # the one before says all that was said of both
            mended[-1] = replace(mended[-1], guard="cut", words=())
        start += len(segment.text) + len(space)
    return mended
