"""Whisper's language codes for the names that corpora give to languages."""

from functools import cache

# What is spoken where the first part of a corpus's name is no code of Whisper or another one's.
SPECIAL = {
    "cmn": "zh",  # Mandarin
    "zh-hk": "yue",  # Common Voice's Hong Kong is Cantonese
    "zh-yue": "yue",
    "fil": "tl",
    "nb": "no",
    "jv": "jw",  # Whisper keeps an old code for Javanese
    "iw": "he",
}


@cache
def _names() -> dict[str, str]:
    from whisper.tokenizer import LANGUAGES, TO_LANGUAGE_CODE  # imports torch

    return TO_LANGUAGE_CODE | {code: code for code in LANGUAGES}


def whisper_code(name: str) -> str | None:
    """Whisper's code for a language's name in a corpus, or None if Whisper does not know it.

    Args:
        name: A code, with or without a country or script ("sv-SE", "cmn_hans_cn", "pt_br"), or
            an English name ("german", "Mandarin").

    Example usage::

        whisper_code("zh-CN"), whisper_code("german"), whisper_code("ga-IE")  # zh, de, None
    """
    name = name.strip().lower().replace("_", "-")
    for part in (name, name.partition("-")[0]):
        code = SPECIAL.get(part) or _names().get(part)
        if code:
            return code
    return None
