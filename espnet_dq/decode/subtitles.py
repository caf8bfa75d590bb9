"""Segments as the cues of subtitle files: SubRip (srt) and WebVTT (vtt); and as JSON."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from html import escape

from espnet_dq.runtimes.interface import Segment, Word

# What JSON need not escape, but a terminal may obey, in names of files; and lone surrogates there.
_ESCAPED = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
HEAD = {"srt": "", "vtt": "WEBVTT\n\n"}
# Seconds: what is shorter is no length, and how long it is shown.
SHORTEST, SHOWN = 0.01, 0.5


def cue(kind: str, number: int, segment: Segment) -> str:
    """The cue `number`, from 1, in a file of a `kind` in `HEAD`, which begins with that.

    What a model puts behind the end of the sound begins and ends there. Nobody would see it, and
    WebVTT wants an end behind the beginning: it is shown for `SHOWN`.
    """
    comma = "," if kind == "srt" else "."
    end = segment.end if segment.end - segment.start >= SHORTEST else segment.start + SHOWN
    times = f"{_time(segment.start, comma)} --> {_time(end, comma)}"
    text = escape(segment.text, quote=False) if kind == "vtt" else segment.text
    return f"{number}\n{times}\n{text}\n\n"


def json_line(path: str, segments: Iterable[Segment]) -> str:
    """What was said in a file, as one line of JSON.

    `file`; `language`, in which the text is, null without any; `segments`, each with `start`, `end`
    (seconds) and `text`, `words` if the runtime told them, and `limit` and `guard` where something
    is to be said of the text (`espnet_dq.runtimes.interface`).
    """
    said = []
    language = None
    for segment in segments:
        language = language or segment.language
        said.append(
            {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}
            | {key: value for key in ("limit", "guard") if (value := getattr(segment, key))}
            | ({"words": [_word(word) for word in segment.words]} if segment.words else {})
        )
    line = json.dumps({"file": path, "language": language, "segments": said}, ensure_ascii=False)
    return _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line) + "\n"


def _word(word: Word) -> dict[str, object]:
    return {key: round(value, 3) if isinstance(value, float) else value
            for key, value in asdict(word).items()}  # fmt: skip


def _time(seconds: float, comma: str) -> str:
    """`hh:mm:ss,mmm`."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    rest = f"{milliseconds // 1000:02d}{comma}{milliseconds % 1000:03d}"
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest}"
