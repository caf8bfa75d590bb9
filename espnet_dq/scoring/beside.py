"""What a table of error rates has to say beside them: what WER counts, and openai-whisper's rates.

The rates are those of `espnet_dq.scoring.score.rates`, as score.json and each system of
results.json hold them.
"""

from collections.abc import Iterable, Mapping

from espnet_dq.scoring.score import MEAN, UNITS

HEAD = ["system", "language", "WER", "WER openai", "CER", "CER openai"]
OPENAI = "openai: after openai-whisper's own normaliser, which takes marks for spaces"
SAME = "openai-whisper's own normaliser gives the same rates in every language"


def columns(languages: Iterable[str]) -> list[str]:
    """What a table of rates shows: the mean and each language; of one language, that alone."""
    found = sorted({*languages} - {MEAN})
    return found if len(found) == 1 else [MEAN, *found]


def mean(languages: Iterable[str]) -> str:
    """`mean `, before the name of a rate that is one; of one language nothing."""
    return "mean " if MEAN in columns(languages) else ""


def units(unit: Mapping[str, str]) -> str:
    """What WER counts, in one sentence.

    Args:
        unit: by language, one of `UNITS`.
    """
    lettered = _lettered(unit)
    if not lettered:
        return "WER counts words in all languages."
    others = ", and words in the others; so does the mean" if mixed(unit) else ""
    return (
        f"WER counts letters with their marks in {', '.join(lettered)}, which are written without "
        f"spaces{others}."
    )


def mixed(unit: Mapping[str, str]) -> bool:
    """Whether WER counts words in some languages and letters in others."""
    return len(set(unit.values())) > 1


def counted(unit: Mapping[str, str]) -> str:
    """`words`, `letters`, or `words, in th and zh letters`: what WER counts, within a sentence."""
    if mixed(unit):
        return f"words, in {' and '.join(_lettered(unit))} letters"
    return "letters" if _lettered(unit) else "words"


def _lettered(unit: Mapping[str, str]) -> list[str]:
    return [lang for lang, each in sorted(unit.items()) if each == UNITS[1]]


def differing(name: str, rates: Mapping) -> list[list[str]]:
    """A row of `HEAD` for each language in which openai-whisper's normaliser gives other rates."""
    rows = []
    for lang in rates["wer"]:
        row = [rates[key][lang] for key in ("wer", "wer_openai", "cer", "cer_openai")]
        if lang != MEAN and (row[0] != row[1] or row[2] != row[3]):
            rows.append([name, lang, *(f"{rate:.1f}" for rate in row)])
    return rows
