"""Segments as the cues of subtitle files: SubRip (srt) and WebVTT (vtt)."""

from html import escape

from espnet_dq.errors import spoken
from espnet_dq.runtimes.interface import Segment

HEAD = {"srt": "", "vtt": "WEBVTT\n\n"}


def cue(kind: str, number: int, segment: Segment) -> str:
    """The cue `number`, from 1, in a file of a `kind` in `HEAD`, which begins with that."""
    comma = "," if kind == "srt" else "."
    times = f"{_time(segment.start, comma)} --> {_time(segment.end, comma)}"
    text = spoken(" ".join(segment.text.split()))  # an empty line would end the cue
    if kind == "vtt":
        text = escape(text, quote=False)
    return f"{number}\n{times}\n{text}\n\n"


def _time(seconds: float, comma: str) -> str:
    """`hh:mm:ss,mmm`."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    rest = f"{milliseconds // 1000:02d}{comma}{milliseconds % 1000:03d}"
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest}"
