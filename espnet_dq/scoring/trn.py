"""Transcript files in sclite's trn format: `token token (speaker-utterance)` per line.

The speaker is the language, so that sclite's table by speaker is a table by language.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from espnet_dq.errors import InputError

SPACE = "<space>"  # the space between two words, as a token of a CER file; ESPnet's name for it

# What sclite reads as markup: alternatives {a / b}, the null word @, comments ;; and the id's
# brackets; the percent sign because it starts an escape; and what no text line can hold.
_MARKUP = re.compile(r"[%(){}@/;\\<>*\x00-\x20\x7f]")


class Pair(NamedTuple):
    """One utterance to be aligned: its language, its id, and the tokens of both sides."""

    lang: str
    utt: str
    ref: Sequence[str]
    hyp: Sequence[str]


def escape(token: str) -> str:
    """A token that sclite takes as a plain word; different tokens stay different.

    Example usage::

        escape("(a)")  # "%28a%29"
        escape("žluť")  # "žluť"
    """
    return _MARKUP.sub(lambda m: f"%{ord(m[0]):02X}", token)


def escape_char(char: str) -> str:
    """`escape` for one character of a CER file: a space becomes `<space>`."""
    return SPACE if char == " " else escape(char)


def speaker(lang: str) -> str:
    """The language as sclite's speaker: without the hyphen, where sclite cuts the id."""
    return quote(lang, safe="_").replace("-", "%2D")


def language(name: str) -> str:
    """The language that `speaker` wrote."""
    return unquote(name)


def write_trn(path: Path, pairs: Sequence[Pair], side: str, chars: bool) -> None:
    """Write one side (`"ref"` or `"hyp"`) of the pairs as a trn file, UTF-8.

    Args:
        chars: the tokens are single characters, spaces among them.
    """
    one = escape_char if chars else escape
    with open(path, "w", encoding="utf-8", newline="\n") as f:
        for pair in pairs:
            tokens = " ".join(map(one, getattr(pair, side)))
            f.write(f"{tokens} ({speaker(pair.lang)}-{escape(pair.utt)})\n")


def read_trn(path: Path) -> dict[str, tuple[str, list[str]]]:
    """What `write_trn` wrote: utterance -> its language and tokens, in file order.

    Raises:
        InputError: no such file, or a line of another form.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    found = {}
    # Not `splitlines`: a token may hold a line separator.
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        tokens, _, name = line.rpartition(" (")
        lang, hyphen, utt = name.removesuffix(")").partition("-")
        if not hyphen or not name.endswith(")"):
            raise InputError(f"{path}:{number}: not of the form TOKENS (LANGUAGE-UTTERANCE)")
        words = [" " if token == SPACE else unquote(token) for token in tokens.split(" ") if token]
        found[unquote(utt)] = language(lang), words
    return found
