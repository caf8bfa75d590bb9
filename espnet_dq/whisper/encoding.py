"""How a text becomes a decoder's tokens: one rule for training, the teacher, clips and scores."""

from functools import cache
from typing import TYPE_CHECKING

from espnet_dq.errors import InputError, shown

if TYPE_CHECKING:  # imports torch
    from tiktoken import Encoding
    from whisper.tokenizer import Tokenizer

# Written without spaces between words, as openai-whisper has it: its splitting into words
# (`whisper/tokenizer.py`) and its scores (`split_letters`; arXiv 2212.04356, 4.1).
SPACELESS = frozenset({"zh", "ja", "yue", "th", "lo", "my"})


def encode_text(tokenizer: "Tokenizer", text: str, language: str) -> list[int]:
    """Token ids of a transcript, as a decoder is to say it from the beginning on.

    Whisper's text has a space before its first word, but none where words have none. Where no token
    is that space with the first letters, it is left out, too: no runtime lets a decoder begin with
    the space by itself (openai-whisper's `SuppressBlank`, `begin_suppress_tokens` elsewhere).

    Args:
        language: Whisper's code.

    Raises:
        InputError: a text with one of Whisper's marks, such as `<|en|>`.
    """
    space = "" if language in SPACELESS else " "
    try:
        ids = tokenizer.encode(space + text.strip())
    except ValueError as e:  # tiktoken's, in four lines
        mark = next((m for m in tokenizer.special_tokens if m in text), "a mark")
        raise InputError(f"a text with {mark}, which is no text: {shown(text)}") from e
    return ids[1:] if ids[:1] == _blank(tokenizer.encoding) else ids


@cache
def _blank(encoding: "Encoding") -> list[int]:
    return encoding.encode(" ")
