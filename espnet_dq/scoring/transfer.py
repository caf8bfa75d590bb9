"""How a model holds for what it did not train on, against the model that it started from.

A rate alone says how hard a set is, so each kind of a canary (`espnet_dq.data.canary`) has a ratio:
of the model's error rates by the first one's, in each language of each set, and their mean. 0.9 is
a tenth fewer errors. It is of words, or where the first makes errors in more than `HARD` percent of
its words, of characters.

One window in which a model goes round in circles has several times as many errors as words, and
decides a small set's rate. So each ratio is also given with at most as many errors in a window as
the window has tokens (`capped`): circles are then as bad as silence, and no worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Capped(Aligned):
    """An utterance that has at most as many errors as its reference has tokens."""

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions, up to `tokens`."""
        return min(super().errors, self.tokens)


def capped(heard: Mapping[str, Aligned]) -> dict[str, Aligned]:
    """The same utterances, each with at most as many errors as tokens."""
    return {utt: Capped(x.utt, x.lang, x.columns) for utt, x in heard.items()}


def compare(canary: KaldiDir, ours: Heard, first: Heard) -> dict[str, dict[str, dict]]:
    """Kind -> `mean`, then each "SET LANGUAGE" -> how a model does.

    Of each: ratio, low, high (95 %, by `espnet_dq.scoring.bootstrap`) and what was drawn (`over`);
    the first three again as `capped` (of the module's text).
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
        cut = ratios(*map(capped, sides), canary.utt2spk)
        found[kind] = {
            x: _shown(sure.get(x)) | {"capped": _bounds(cut.get(x))} | items.get(x, {})
            for x in (MEAN, *items)
        }
    return found


def _shown(each: Ratio | None) -> dict:
    """A ratio as JSON can hold it, and what was drawn."""
    return _bounds(each) | {"over": each.over if each else None}


def _bounds(each: Ratio | None) -> dict:
    """A ratio and its interval as JSON can hold them."""
    if each is None:
        return {"ratio": None, "low": None, "high": None}
    low, high = (x if isfinite(x) else None for x in (each.low, each.high))
    return {"ratio": each.ratio, "low": low, "high": high}


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
