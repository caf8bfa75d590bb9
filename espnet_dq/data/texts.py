"""Texts as models give them: in pieces, and sometimes in circles."""

import zlib
from collections.abc import Iterable

import regex

from espnet_dq.data.spelling import SPACELESS

_SPACED = regex.compile(r"[\p{Nd}\p{Latin}\p{Greek}\p{Cyrillic}\p{Hebrew}\p{Arabic}\p{Hangul}]")


def between(language: str) -> str:
    """What stands between two pieces of a text: a space, or nothing where words have none."""
    return "" if language in SPACELESS else " "


def join(texts: Iterable[str], language: str) -> str:
    """Pieces of a text as one line."""
    return glue(filter(None, (" ".join(text.split()) for text in texts)), language)


def glue(pieces: Iterable[str], language: str) -> str:
    """Pieces of a text as they stand, with what is between them.

    Where words have no spaces, that is one between digits or letters of scripts that have them:
    一共20 and 30分钟 are not 2030.
    """
    text, space = "", between(language)
    for piece in filter(None, pieces):
        parted = _SPACED.match(text[-1:]) and _SPACED.match(piece[:1])
        text += (" " if parted and text else space if text else "") + piece
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
