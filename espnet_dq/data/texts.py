"""Texts as models give them: in pieces, and sometimes in circles."""

import zlib
from collections.abc import Iterable

import regex

from espnet_dq.whisper.encoding import SPACELESS

_SPACED = r"[\p{Nd}\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}\p{Hangul}]"
_BEGINS = regex.compile(_SPACED)
_ENDS = regex.compile(rf"(?r){_SPACED}\p{{M}}*")  # from the end; accents may stand on their own
# What has neither sound nor shape, and which screens, tables and players stumble over. Joiners
# stay: scripts need them.
_UNWRITTEN = regex.compile(r"(?V1)[[\p{Cc}\p{Cs}\p{Bidi_Control}]--\s]")


def as_said(text: str) -> str:
    """What a model says as one line, without controls and marks of writing direction."""
    return " ".join(_UNWRITTEN.sub("", text).split())


def between(language: str) -> str:
    """What stands between two pieces of a text: a space, or nothing where words have none."""
    return "" if language in SPACELESS else " "


def join(texts: Iterable[str], language: str) -> str:
    """Pieces of a text as one line."""
    return glue(filter(None, (" ".join(text.split()) for text in texts)), language)


def gap(before: str, after: str, language: str) -> str:
    """What stands between two pieces of a text, neither of them empty.

    Where words have no spaces, that is one between digits or letters of scripts that have them:
    一共20 and 30分钟 are not 2030.
    """
    return " " if _ENDS.match(before) and _BEGINS.match(after) else between(language)


def glue(pieces: Iterable[str], language: str) -> str:
    """Pieces of a text as they stand, with what is between them (`gap`)."""
    text, before = "", ""
    for piece in filter(None, pieces):
        text += (gap(before, piece, language) if before else "") + piece
        before = piece
    return text


def repetition(text: str) -> float:
    """How much shorter zlib makes a text, whatever its letters; more than 2.4 of loops.

    In UTF-8, some scripts' letters take three bytes, of which two are nearly always the same: sound
    Georgian would seem to go round in circles. So it does to the rules that openai-whisper has with
    timestamps and faster-whisper always, which are left as they are.
    """
    numbers = {letter: number for number, letter in enumerate(dict.fromkeys(text))}
    size = 1 if len(numbers) <= 256 else 2
    content = b"".join(numbers[letter].to_bytes(size) for letter in text)
    return len(content) / len(zlib.compress(content))  # 0 of no text
