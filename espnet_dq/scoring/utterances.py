"""The errors of each utterance, aligned as the rates are: which utterances, which words.

Read from the `ref.trn` and `hyp.trn` that `score` leaves, so that exactly what was scored is shown.
jiwer aligns: its counts are those of the rates; sclite's tables may count a few more (`align`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from unicodedata import category, east_asian_width

import jiwer
import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from espnet_dq.errors import InputError
from espnet_dq.scoring.align import cheapest
from espnet_dq.scoring.score import Utterance
from espnet_dq.scoring.trn import read_trn

STEPS = 100  # in which words can be more or less alike
SUBSTITUTED, DELETED, INSERTED = "substituted", "deleted", "inserted"


@dataclass(frozen=True)
class Aligned:
    """A scored utterance, column by column: (said, heard); None where one side has nothing."""

    utt: str
    lang: str
    columns: Sequence[tuple[str | None, str | None]]

    @property
    def reference(self) -> tuple[str, ...]:
        """The tokens of the reference."""
        return tuple(said for said, _ in self.columns if said is not None)

    @property
    def tokens(self) -> int:
        """Of the reference."""
        return len(self.reference)

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return sum(said != heard for said, heard in self.columns)


def read_aligned(folder: Path, chars: bool = False) -> dict[str, Aligned]:
    """Utterance -> its alignment, of a `score_wer` or, with `chars`, a `score_cer`.

    Raises:
        InputError: a file is missing or broken, or the two hold other utterances.
    """
    ref, hyp = read_trn(folder / "ref.trn"), read_trn(folder / "hyp.trn")
    if ref.keys() != hyp.keys():
        raise InputError(f"{folder / 'hyp.trn'}: other utterances than in ref.trn")
    return _aligned([(u, lang, said, hyp[u][1]) for u, (lang, said) in ref.items()], chars)


def align_texts(utterances: Iterable[Utterance], chars: bool = False) -> dict[str, Aligned]:
    """Utterance -> its alignment, of texts that were read; as `read_aligned` of their scores."""
    return _aligned([(u.utt, u.lang, *u.tokens(chars)) for u in utterances], chars)


def _aligned(
    scored: Sequence[tuple[str, str, Sequence[str], Sequence[str]]], chars: bool
) -> dict[str, Aligned]:
    """Of (utterance, language, said, heard)."""
    glue, count = ("", jiwer.process_characters) if chars else (" ", jiwer.process_words)
    sides = ([glue.join(each[side]) for each in scored] for side in (2, 3))
    return {
        utt: Aligned(utt, lang, tuple(_columns(chunks, said, heard)))
        for (utt, lang, said, heard), chunks in zip(scored, count(*sides).alignments, strict=True)
    }


def _columns(
    chunks: Iterable[jiwer.AlignmentChunk], ref: Sequence[str], hyp: Sequence[str]
) -> Iterable[tuple[str | None, str | None]]:
    for chunk in chunks:
        said = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        heard = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for n in range(max(len(said), len(heard))):
            yield said[n] if n < len(said) else None, heard[n] if n < len(heard) else None


def closest(aligned: Aligned) -> Aligned:
    """The alignment, of those with as few errors, whose substituted words are the most alike.

    Of `frau maier` heard as `frau meier ja`, `meier` stands under `maier`, not `ja`.
    """
    said = aligned.reference
    heard = [heard for _, heard in aligned.columns if heard is not None]
    # However unlike all pairs are, together they weigh less than one error.
    error = STEPS * (min(len(said), len(heard)) + 1)

    def pair(i: int) -> np.ndarray:
        unlike = process.cdist(said[i : i + 1], heard, scorer=Levenshtein.normalized_distance)
        return np.where(unlike == 0, 0, error + np.rint(STEPS * unlike)).astype(np.int64).ravel()

    above, below = iter(said), iter(heard)
    letters = cheapest(pair, (len(said), len(heard)), error)
    columns = tuple(
        (next(above) if letter != "I" else None, next(below) if letter != "D" else None)
        for letter in letters
    )
    return replace(aligned, columns=columns)


def most_errors(aligned: Mapping[str, Aligned], most: int) -> list[Aligned]:
    """The utterances with the most errors, at most `most` of each language.

    Errors of two languages do not compare: one may count letters, the other words. Of equals those
    of fewer tokens come first.
    """
    wrong = [x for x in aligned.values() if x.errors]
    ranked = sorted(wrong, key=lambda x: (x.lang, -x.errors, x.tokens, x.utt))
    return [x for _, each in groupby(ranked, lambda x: x.lang) for x in islice(each, most)]


def confusions(aligned: Mapping[str, Aligned], most: int) -> list[dict]:
    """The errors that occur most, at most `most` of each language: kind, said, heard, times.

    Of equally frequent ones substitutions come first, then deletions, then insertions.
    """
    counts: Counter[tuple[str, str | None, str | None]] = Counter()
    for each in aligned.values():
        counts.update((each.lang, *column) for column in each.columns if column[0] != column[1])
    kinds = (SUBSTITUTED, DELETED, INSERTED)

    def rank(entry: tuple[tuple[str, str | None, str | None], int]) -> tuple:
        (lang, said, heard), times = entry
        return lang, -times, kinds.index(_kind(said, heard)), said or "", heard or ""

    ranked = groupby(sorted(counts.items(), key=rank), lambda entry: entry[0][0])
    return [
        {"lang": lang, "kind": _kind(said, heard), "said": said, "heard": heard, "times": times}
        for lang, each in ranked
        for (_, said, heard), times in islice(each, most)
    ]


def _kind(said: str | None, heard: str | None) -> str:
    if said is None:
        return INSERTED
    return DELETED if heard is None else SUBSTITUTED


def lines(columns: Iterable[Sequence[str | None]]) -> tuple[str, str, str]:
    """Said, heard and what is wrong, under each other in a font of fixed width, as sclite prints.

    `*` stands where there is nothing. Under an error is S, D or I, as not every script has
    capitals and not every letter keeps its spelling in them.
    """
    sides: tuple[list[str], ...] = ([], [], [])
    for said, heard in columns:
        width = max(_width(said or "*"), _width(heard or "*"))
        wrong = "" if said == heard else _kind(said, heard)[0].upper()
        cells = said or "*" * width, heard or "*" * width, wrong
        for side, cell in zip(sides, cells, strict=True):
            side.append(cell + " " * (width - _width(cell)))
    said, heard, wrong = (" ".join(side).rstrip() for side in sides)
    return said, heard, wrong


def _width(text: str) -> int:
    """Columns that a text takes in a font of fixed width: marks and joiners take none."""
    shown = [c for c in text if category(c) not in ("Mn", "Me", "Cf")]
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in shown)
