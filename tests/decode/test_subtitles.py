"""Cues of subtitle files: how times are written, and what has none."""

import re

import pytest

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.decode.subtitles import HEAD, cue
from espnet_dq.decode.transcribe import transcribe_pieces
from espnet_dq.runtimes.interface import Segment
from tests.decode.fake import FakeRuntime, spoken


@pytest.mark.parametrize("kind", HEAD)
def test_times_are_rounded_as_a_whole(kind):
    """59.9995 s is a minute, not 60 seconds of the minute before."""
    mark = {"srt": ",", "vtt": "."}[kind]
    said = cue(kind, 7, Segment(59.9994, 3599.9996, "a"))
    assert said == f"7\n00:00:59{mark}999 --> 01:00:00{mark}000\na\n\n"


@pytest.mark.parametrize("kind", HEAD)
def test_what_is_said_behind_the_end_is_shown(kind):
    """As models make it up; it is cut to no length, at the end of the sound that they heard."""

    class Late(FakeRuntime):
        def transcribe(self, audio, language, timestamps, temperatures):
            end = len(audio) / SAMPLE_RATE
            return [Segment(0.0, end + 1, "one"), Segment(end + 1, end + 3, "two")]

    audio, _ = spoken(5)
    found = list(transcribe_pieces(Late(), [(0, audio)], "it", True))
    text = "".join(cue(kind, number, segment) for number, segment in enumerate(found, 1))
    times = re.findall(r"(\S+) --> (\S+)", text)
    assert len(times) == 2 and all(start < end for start, end in times)
    assert [start for start, _ in times] == sorted(start for start, _ in times)
