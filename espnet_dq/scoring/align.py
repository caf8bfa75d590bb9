"""Word alignment with sclite's weights, and the counts that its tables show.

jiwer looks for the fewest errors; sclite for the smallest sum of 4 per substitution and 3
per deletion or insertion. So both always agree on sentences, reference tokens and wrong
sentences, but sclite may count more errors: it prefers three deletions and three insertions
(18) to five substitutions (20). jiwer knows no weights, so a table that is to equal sclite's is
aligned here.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from math import isqrt

import numpy as np

SUBSTITUTION, GAP = 4, 3  # sclite's costs; a correct token costs nothing
KEPT = 100_000_000  # bytes: ten minutes of speech, 10,000 characters a side


@dataclass(frozen=True)
class Row:
    """Counts of one row of an error table, with sclite's names for the columns."""

    snt: int = 0  # sentences
    wrd: int = 0  # reference tokens: words, or characters in a CER table
    corr: int = 0
    sub: int = 0
    dele: int = 0
    ins: int = 0
    err: int = 0  # sub + dele + ins
    serr: int = 0  # sentences with at least one error

    def __add__(self, other: "Row") -> "Row":
        return Row(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def percent(self) -> list[str]:
        """Corr, Sub, Del, Ins, Err, S.Err in percent with one decimal, half rounded up.

        All but the last are shares of the reference tokens; S.Err is of the sentences.
        """
        parts = [(n, self.wrd) for n in (self.corr, self.sub, self.dele, self.ins, self.err)]
        return [percent(n, total) for n, total in [*parts, (self.serr, self.snt)]]


def percent(count: int, total: int) -> str:
    """`count` in percent of `total`: integers only, because 31.25 has to become 31.3."""
    if total == 0:
        return "0.0"
    tenths = (2000 * count + total) // (2 * total)
    return f"{tenths // 10}.{tenths % 10}"


def align(ref: Sequence[str], hyp: Sequence[str]) -> str:
    """Align two token sequences as sclite does.

    Returns one letter per column, from left to right: C correct, S substituted, D deleted,
    I inserted. Of several cheapest alignments sclite's is taken: going back from the end, a
    pair of tokens is preferred to an insertion and an insertion to a deletion.
    """
    codes = {token: k for k, token in enumerate(dict.fromkeys([*ref, *hyp]))}
    r = np.array([codes[t] for t in ref], dtype=np.int64)
    h = np.array([codes[t] for t in hyp], dtype=np.int64)
    return cheapest(lambda i: np.where(r[i] == h, 0, SUBSTITUTION), (len(r), len(h)), GAP)


def cheapest(pair: Callable[[int], np.ndarray], shape: tuple[int, int], gap: int) -> str:
    """The cheapest alignment, in letters as of `align`.

    A byte is kept for each pair of tokens, if there are few: up to `KEPT`. Of more, costs are kept
    of some rows, and what lies between them is found again on the way back: 2 hours of speech,
    100,000 characters a side, take 0.3 GB (computed).

    Args:
        pair: what a reference token, by its number, costs with each of the other side, (width,)
            whole numbers; 0 where they are equal and nowhere else.
        shape: tokens of the reference and of the other side.
        gap: what an insertion or a deletion costs.
    """
    height, width = shape
    gaps = gap * np.arange(width + 1)
    block = height + 1 if height * width <= KEPT else isqrt(height) + 1

    def step(cost: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pairs = pair(i)
        paired, row = cost[:-1] + pairs, cost + gap
        row[1:] = np.minimum(row[1:], paired)
        # An insertion adds a gap per step to the right: a running minimum once that is taken off.
        return np.minimum.accumulate(row - gaps) + gaps, paired, pairs

    starts, kept = range(0, height, block), [gaps]
    for start in starts[:-1]:
        cost = kept[-1]
        for i in range(start, start + block):
            cost, _, _ = step(cost, i)
        kept.append(cost)
    i, j, columns = height, width, bytearray()
    for start in reversed(starts):
        cost, ways = kept.pop(), []
        for row in range(start, min(start + block, height)):
            cost, paired, pairs = step(cost, row)
            way = np.full(width + 1, ord("D"), np.uint8)
            way[1:][cost[1:] == cost[:-1] + gap] = ord("I")
            way[1:] = np.where(cost[1:] == paired, np.where(pairs, ord("S"), ord("C")), way[1:])
            ways.append(way)
        while i > start:
            columns.append(ways[i - 1 - start][j])
            i, j = i - (columns[-1] != ord("I")), j - (columns[-1] != ord("D"))
    columns += b"I" * j
    return columns[::-1].decode()


def count(columns: str) -> Row:
    """The counts of one aligned sentence, from the letters that `align` returns."""
    c, s, d, i = (columns.count(letter) for letter in "CSDI")
    return Row(1, c + s + d, c, s, d, i, s + d + i, int(s + d + i > 0))


def total(rows: Iterable[Row]) -> Row:
    """The sum of rows."""
    return sum(rows, Row())
