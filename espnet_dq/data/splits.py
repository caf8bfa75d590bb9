"""Which prompt is in train, dev or test: by its name, the same in each language and run.

The first 16 hex digits of the MD5 of the prompt's name, as an integer, modulo 10: 0 is test,
1 is dev, the rest train. Then no sentence may stand in two splits of its language: where one
normalised text has prompts in more than one, all of its prompts go to train.
"""

import hashlib
from collections.abc import Iterable

from espnet_dq.data.spelling import normalise

SPLITS = ("train", "dev", "test")


def split_of(prompt: str) -> str:
    """Split of a prompt by its name alone, for example `split_of("digits/1")`."""
    digest = hashlib.md5(prompt.encode("utf-8"), usedforsecurity=False).hexdigest()
    return {0: "test", 1: "dev"}.get(int(digest[:16], 16) % 10, "train")


def assign(entries: Iterable[tuple[str, str, str]]) -> list[str]:
    """Splits of entries, such that a language's normalised text stands in one split only.

    The same text in two languages is no overlap: Spanish and Italian share words, and a
    model is told the language.

    Args:
        entries: (language, prompt, text) of each utterance.

    Returns:
        "train", "dev" or "test" for each entry, in order.

    Example usage::

        assign([("en", "digits/1", "one"), ("fr", "digits/1", "un")])
    """
    entries = [(lang, split_of(prompt), normalise(text, lang)) for lang, prompt, text in entries]
    seen: dict[tuple[str, str], set[str]] = {}
    for lang, split, text in entries:
        seen.setdefault((lang, text), set()).add(split)
    return [split if len(seen[lang, text]) == 1 else "train" for lang, split, text in entries]
