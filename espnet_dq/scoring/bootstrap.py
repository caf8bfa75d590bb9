"""How sure a difference of two systems' error rates is: a paired bootstrap.

From the speakers, or the utterances, that both were scored on as many are drawn with replacement,
again and again; each brings its references' tokens and both systems' errors, so what makes it hard
or easy is the same for both. Utterances of one speaker are alike: where a language has enough
speakers, these are drawn, with all that they say. The percentiles of the differences of the rates
of all draws are the interval: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR
performance evaluation", ICASSP 2004. Over utterances it speaks for more of the same speakers, not
for other voices; over neither for another training.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from espnet_dq.scoring.score import MEAN
from espnet_dq.scoring.utterances import Aligned

DRAWS, SEED, CONFIDENCE = 5_000, 0, 0.95
# All in one direction by chance: 2 * 0.5 ** 6 = 0.03 (a sign test). Of fewer utterances that differ
# nothing can be said at 95 %, however narrow the interval is.
FEWEST = 6
_AT_ONCE = 1 << 22  # numbers in memory
SPEAKERS, UTTERANCES = "speakers", "utterances"
SAME, FEWER, MORE = "not distinguishable", "fewer errors", "more errors"


@dataclass(frozen=True)
class Difference:
    """Of the error rates of two systems, the first minus the second, in percentage points.

    `low` to `high`: the interval of `CONFIDENCE`. `over`: what was drawn, `speakers` or
    `utterances`, or both, in other languages. `differing`: utterances with other numbers of errors.
    `enough`: whether of what was drawn `FEWEST` differ, and each language has as many.
    """

    points: float
    low: float
    high: float
    utterances: int
    differing: int
    over: str
    enough: bool

    @property
    def verdict(self) -> str:
        """`fewer errors` or `more errors`, of the first; else `not distinguishable`."""
        if not self.enough or self.low <= 0 <= self.high:
            return SAME
        return FEWER if self.high < 0 else MORE


@dataclass(frozen=True)
class Ratio:
    """Of the error rates of two systems, the first by the second; 0.8: a fifth fewer errors.

    `low` to `high`: the interval of `CONFIDENCE`, not numbers where fewer than `FEWEST` were drawn
    in all, or but one in a language. `utterances` and `over`: see `Difference`. All three are
    infinite, or not numbers, where the second has no errors.
    """

    ratio: float
    low: float
    high: float
    utterances: int
    over: str


def ratios(
    first: Mapping[str, Aligned],
    second: Mapping[str, Aligned],
    speakers: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Ratio]:
    """By language, and their unweighted mean (`MEAN`), which comes first; see `differences`."""
    drawn = _drawn(first, second, speakers, draws, seed, _ratio)
    if not drawn:
        return {}
    parts = [*drawn.values()]
    points = sum(each.points for each in parts) / len(parts)
    means = sum(each.draws for each in parts) / len(parts)
    found = {lang: _interval([each], each.points, each.draws) for lang, each in drawn.items()}
    return {MEAN: _interval(parts, points, means), **found}


def _interval(parts: Collection["_Drawn"], ratio: float, drawn: np.ndarray) -> Ratio:
    # Draws of one are all alike, and those of few are few: their interval would seem narrow.
    counts = [len(part.units) for part in parts]
    enough = sum(counts) >= FEWEST and min(counts) > 1
    low, high = _quantiles(drawn) if enough else (nan, nan)
    over = " and ".join(sorted({part.over for part in parts}))
    return Ratio(ratio, low, high, sum(len(part.utterances) for part in parts), over)


def differences(
    first: Mapping[str, Aligned],
    second: Mapping[str, Aligned],
    speakers: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Difference]:
    """By language, and of the unweighted mean over languages (`MEAN`), which comes first.

    Utterances are paired by their ids; those of one system alone, or with another reference, are
    left out. Empty if none is left. Without a mean where a language has no pair: it would be of
    other languages than the systems' own means. The order of utterances makes no difference.

    Args:
        first, second: what `utterances.read_aligned` gives of each.
        speakers: of each utterance, drawn where a language has `FEWEST` or more; None: not known.
        draws, seed: of the bootstrap.
    """
    drawn = _drawn(first, second, speakers, draws, seed, _points)
    if not drawn:
        return {}
    found = {lang: _difference([each], each.points, each.draws) for lang, each in drawn.items()}
    if found.keys() != {x.lang for side in (first, second) for x in side.values()}:
        return found
    points = sum(each.points for each in drawn.values()) / len(drawn)
    means = sum(each.draws for each in drawn.values()) / len(drawn)
    return {MEAN: _difference([*drawn.values()], points, means), **found}


Statistic = Callable[[np.ndarray], np.ndarray]


def _drawn(
    first: Mapping[str, Aligned],
    second: Mapping[str, Aligned],
    speakers: Mapping[str, str] | None,
    draws: int,
    seed: int,
    statistic: Statistic,
) -> dict[str, "_Drawn"]:
    """The languages of the utterances that both have, by name."""
    rows: dict[str, dict[str, tuple[int, int, int]]] = {}
    for utt in first.keys() & second.keys():
        one, other = first[utt], second[utt]
        if (one.lang, one.reference) == (other.lang, other.reference):
            rows.setdefault(one.lang, {})[utt] = (one.errors, other.errors, one.tokens)
    return {
        lang: _Drawn.of(lang, rows[lang], speakers, draws, seed, statistic) for lang in sorted(rows)
    }


@dataclass(frozen=True)
class _Drawn:
    """Of one language: its utterances, what is drawn (errors, errors, tokens) and the draws.

    `points`: the statistic of all, `draws`: of each draw.
    """

    utterances: np.ndarray
    units: np.ndarray
    over: str
    points: float
    draws: np.ndarray

    @classmethod
    def of(
        cls,
        lang: str,
        rows: Mapping[str, tuple[int, int, int]],
        speakers: Mapping[str, str] | None,
        draws: int,
        seed: int,
        statistic: Statistic,
    ) -> "_Drawn":
        table, over = np.array([*rows.values()]), UTTERANCES
        units = table
        if speakers is not None:
            said: dict[str, list[tuple[int, int, int]]] = {}
            for utt, row in rows.items():
                said.setdefault(speakers[utt], []).append(row)
            # With an utterance each it is all the same; so it is where no speaker is known.
            if FEWEST <= len(said) < len(rows):
                units, over = np.array([np.sum(each, axis=0) for each in said.values()]), SPEAKERS
        random = np.random.default_rng([seed, *lang.encode()])
        drawn = _draw(units, draws, random, statistic)
        return cls(table, units, over, float(statistic(table.sum(0))), drawn)


def _points(sums: np.ndarray) -> np.ndarray:
    """Difference of the rates in percentage points; the last axis: errors, errors, tokens."""
    return 100 * (sums[..., 0] - sums[..., 1]) / sums[..., 2]


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Of the rates; the same for all tokens."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums[..., 0] / sums[..., 1]


def _draw(
    table: np.ndarray, draws: int, random: np.random.Generator, statistic: Statistic
) -> np.ndarray:
    """The statistic of each draw of as many rows as `table` has, (draws,).

    Equal rows are drawn together: how often each kind comes is a multinomial number.
    """
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    chunk = max(1, _AT_ONCE // len(kinds))
    parts = []
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        times = random.multinomial(len(table), counts / len(table), size=size)
        parts.append(statistic(times @ kinds))
    return np.concatenate(parts)


def _difference(parts: Collection[_Drawn], points: float, drawn: np.ndarray) -> Difference:
    low, high = _quantiles(drawn)
    return Difference(
        points,
        low,
        high,
        sum(len(part.utterances) for part in parts),
        sum(_differing(part.utterances) for part in parts),
        " and ".join(sorted({part.over for part in parts})),
        sum(_differing(part.units) for part in parts) >= FEWEST
        and min(len(part.units) for part in parts) >= FEWEST,
    )


def _quantiles(drawn: np.ndarray) -> tuple[float, float]:
    """The ends of the interval of `CONFIDENCE`.

    A draw in which neither system makes an error says nothing of a ratio: it is left out.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return nan, nan
    with np.errstate(invalid="ignore"):  # between two infinite ratios
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _differing(table: np.ndarray) -> int:
    return int((table[:, 0] != table[:, 1]).sum())
