"""Clips whose text is longer than a decoder has room for, decoded in two.

Whisper's tokens are made for English. Georgian and Burmese take 2.4 to 2.8 for a letter, so that a
window's text may need more than a decoder's 448 positions, or the half that whisper.cpp uses.
"""

from dataclasses import replace
from itertools import batched

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.pieces import quietest
from espnet_dq.data.texts import join, repetition
from espnet_dq.runtimes.interface import (
    COMPRESSION,
    TEMPERATURES,
    Hypothesis,
    Runtime,
    Segment,
    failures,
    heard,
    worst,
    written,
)

FASTEST = 100  # tokens a second: twice what 20 letters a second take in Burmese
SHORTEST = 2.0  # seconds that are cut in two


def decode(runtime: Runtime, clips: list[np.ndarray], language: str) -> list[Hypothesis]:
    """As the runtime's `decode`; what is cut at the decoder's end is decoded in two, and so on.

    Still cut are texts that go round in circles, which no room is enough for.
    """
    with failures():
        said = runtime.decode([*map(heard, clips)], language)
    for number, (clip, whole) in enumerate(zip(clips, said, strict=True)):
        if whole.limit and (at := _middle(runtime, clip, whole.text)):
            parts = [
                part
                for batch in batched((clip[:at], clip[at:]), runtime.batch)
                for part in decode(runtime, list(batch), language)
            ]
            text = join((part.text for part in parts), written(runtime, language))
            said[number] = Hypothesis(text, worst(["in two", *(part.limit for part in parts)]))
    return said


def transcribe(
    runtime: Runtime,
    audio: np.ndarray,
    language: str,
    timestamps: bool,
    temperatures: tuple[float, ...] = TEMPERATURES,
) -> list[Segment]:
    """As the runtime's `transcribe`; what is cut at the decoder's end is decoded in two."""
    with failures():
        segments = runtime.transcribe(heard(audio), language, timestamps, temperatures)
    text = " ".join(segment.text for segment in segments)
    if not worst(s.limit for s in segments) or not (at := _middle(runtime, audio, text)):
        return segments
    return [
        replace(
            segment.moved(start, len(part) / SAMPLE_RATE), limit=worst(["in two", segment.limit])
        )
        for start, part in ((0.0, audio[:at]), (at / SAMPLE_RATE, audio[at:]))
        for segment in transcribe(runtime, part, language, timestamps, temperatures)
    ]


def _middle(runtime: Runtime, audio: np.ndarray, text: str) -> int:
    """Where to cut a clip whose text is too long; 0 where that would not help."""
    shortest = SAMPLE_RATE * max(SHORTEST, runtime.most_tokens / FASTEST)
    if len(audio) < shortest or repetition(text) > COMPRESSION:
        return 0
    return quietest(audio, len(audio) // 4, 3 * len(audio) // 4)
