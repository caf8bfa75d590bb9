"""How sure a difference of two systems' error rates is: a paired bootstrap over utterances.

From the utterances that both were scored on as many are drawn with replacement, again and again;
an utterance brings its reference's tokens and both systems' errors, so what makes it hard or easy
is the same for both. The percentiles of the differences of the rates of all draws are the interval:
Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
ICASSP 2004. It speaks for more utterances like these, not for other voices or another training.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from espnet_dq.scoring.score import MEAN
from espnet_dq.scoring.utterances import Aligned

DRAWS, SEED, CONFIDENCE = 5_000, 0, 0.95
# All in one direction by chance: 2 * 0.5 ** 6 = 0.03 (a sign test). Of fewer utterances that differ
# nothing can be said at 95 %, however narrow the interval is.
FEWEST = 6
_AT_ONCE = 1 << 22  # numbers in memory
SAME, FEWER, MORE = "not distinguishable", "fewer errors", "more errors"


@dataclass(frozen=True)
class Difference:
    """Of the error rates of two systems, the first minus the second, in percentage points.

    `low` to `high`: the interval of `CONFIDENCE`. `differing`: utterances with other numbers of
    errors. `enough`: whether there are `FEWEST` of them, in each language as many utterances.
    """

    points: float
    low: float
    high: float
    utterances: int
    differing: int
    enough: bool

    @property
    def verdict(self) -> str:
        """`fewer errors` or `more errors`, of the first; else `not distinguishable`."""
        if not self.enough or self.low <= 0 <= self.high:
            return SAME
        return FEWER if self.high < 0 else MORE


def differences(
    first: Mapping[str, Aligned],
    second: Mapping[str, Aligned],
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Difference]:
    """By language, and of the unweighted mean over languages (`MEAN`), which comes first.

    Utterances are paired by their ids; those of one system alone, or with another reference, are
    left out. Empty if none is left. Without a mean where a language has no pair: it would be of
    other languages than the systems' own means. The order of utterances makes no difference.

    Args:
        first, second: what `utterances.read_aligned` gives of each.
        draws, seed: of the bootstrap.
    """
    rows: dict[str, list[tuple[int, int, int]]] = {}
    for utt in first.keys() & second.keys():
        one, other = first[utt], second[utt]
        if (one.lang, one.reference) == (other.lang, other.reference):
            rows.setdefault(one.lang, []).append((one.errors, other.errors, one.tokens))
    if not rows:
        return {}
    found, means, points = {}, np.zeros(draws), []
    for lang in sorted(rows):
        table = np.array(rows[lang])
        drawn = _draw(table, draws, np.random.default_rng([seed, *lang.encode()]))
        points.append(float(_points(table.sum(0))))
        found[lang] = _difference([table], points[-1], drawn)
        means += drawn / len(rows)
    tables = [np.array(each) for each in rows.values()]
    if found.keys() != {x.lang for side in (first, second) for x in side.values()}:
        return found
    return {MEAN: _difference(tables, sum(points) / len(points), means), **found}


def _points(sums: np.ndarray) -> np.ndarray:
    """Difference of the rates in percentage points; the last axis: errors, errors, tokens."""
    return 100 * (sums[..., 0] - sums[..., 1]) / sums[..., 2]


def _draw(table: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
    """The difference in each draw of as many rows as `table` has, (draws,).

    Equal rows are drawn together: how often each kind comes is a multinomial number.
    """
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    chunk = max(1, _AT_ONCE // len(kinds))
    parts = []
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        times = random.multinomial(len(table), counts / len(table), size=size)
        parts.append(_points(times @ kinds))
    return np.concatenate(parts)


def _difference(tables: Collection[np.ndarray], points: float, drawn: np.ndarray) -> Difference:
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    differing = sum(int((table[:, 0] != table[:, 1]).sum()) for table in tables)
    return Difference(
        points,
        float(low),
        float(high),
        sum(map(len, tables)),
        differing,
        differing >= FEWEST and min(map(len, tables)) >= FEWEST,
    )
