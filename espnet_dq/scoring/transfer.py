"""How a model holds for what it did not train on, against the model that it started from.

A rate alone says how hard a set is, so each kind of a canary (`espnet_dq.data.canary`) has a ratio:
of the model's error rates by the first one's, in each language of each set, and their mean. 0.9 is
a tenth fewer errors. It is of words, or where the first makes errors in more than `HARD` percent of
its words, of characters.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path

from espnet_dq.data.canary import NO_SPEECH, order
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.data.spelling import compared
from espnet_dq.scoring.bootstrap import Ratio, ratios
from espnet_dq.scoring.score import MEAN, read_texts
from espnet_dq.scoring.utterances import Aligned, align_texts

HARD = 80.0  # percent
Heard = tuple[Mapping[str, Aligned], Mapping[str, Aligned]]  # of a model: by words, by characters


def heard(canary: Path, decoded: Path) -> Heard:
    """What a model said of a canary, aligned; raises `InputError` as `read_texts`."""
    utterances = read_texts(canary, decoded).utterances
    return align_texts(utterances), align_texts(utterances, chars=True)


def compare(canary: KaldiDir, ours: Heard, first: Heard) -> dict[str, dict[str, dict]]:
    """Kind -> `mean`, then each "SET LANGUAGE" -> how a model does.

    Of each: ratio, low, high (95 %, by `espnet_dq.scoring.bootstrap`) and what was drawn (`over`).
    A column in which the first makes no error has no ratio (None) and no part in the mean; an end
    of an interval without a bound is None. Of columns also wer, cer, `by` (wer or cer: whose ratio
    it is), words, windows and speakers (None: nobody knows).

    Args:
        canary: with `KIND` and `SET`.
        ours, first: see `heard`.
    """
    columns: dict[str, dict[str, list[str]]] = {}
    for utt in first[0]:
        lang = first[0][utt].lang
        of = columns.setdefault(canary.extra[KIND][utt], {})
        of.setdefault(f"{canary.extra[SET][utt]} {lang}", []).append(utt)
    found = {}
    for kind, of in sorted(columns.items(), key=lambda each: order(each[0])):
        sides: tuple[dict, dict] = ({}, {})
        items = {}
        for column, utts in sorted(of.items()):
            chars = _rate(first[0], utts) > HARD
            for side, heard in zip(sides, (ours[chars], first[chars]), strict=True):
                if not _rate(first[chars], utts):
                    continue
                side |= {utt: replace(heard[utt], lang=column) for utt in utts}
            known = {canary.speaker(utt) for utt in utts} - {""}
            items[column] = {
                "wer": _rate(ours[0], utts),
                "cer": _rate(ours[1], utts),
                "by": "cer" if chars else "wer",
                "words": sum(first[0][utt].tokens for utt in utts),
                "windows": len(utts),
                "speakers": len(known) or None,
            }
        sure = ratios(*sides, canary.utt2spk)
        found[kind] = {x: _shown(sure.get(x)) | items.get(x, {}) for x in (MEAN, *items)}
    return found


def _shown(each: Ratio | None) -> dict:
    """A ratio as JSON can hold it."""
    if each is None:
        return {"ratio": None, "low": None, "high": None, "over": None}
    low, high = (x if isfinite(x) else None for x in (each.low, each.high))
    return {"ratio": each.ratio, "low": low, "high": high, "over": each.over}


def _rate(heard: Mapping[str, Aligned], utts: list[str]) -> float:
    return 100 * sum(heard[u].errors for u in utts) / sum(heard[u].tokens for u in utts)


def words_a_minute(canary: KaldiDir, said: Mapping[str, str], seconds: Mapping[str, float]) -> dict:
    """Words that were said where nobody speaks, of each sound, and of all (`mean`).

    Args:
        canary: with `KIND` and `SET`.
        said: utterance -> text, of all that was listened to.
        seconds: of each of these.
    """
    counts: dict[str, list[float]] = {}
    for utt in (u for u in said if canary.extra[KIND][u] == NO_SPEECH):
        words = len(compared(said[utt], canary.utt2lang[utt]))
        counts.setdefault(canary.extra[SET][utt], []).append(words / seconds[utt] * 60)
    means = {name: sum(each) / len(each) for name, each in counts.items()}
    return {MEAN: sum(means.values()) / len(means), **means} if means else {}
