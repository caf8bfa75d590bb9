"""What of a text can be said in a time: no loops, and no more letters than anybody says.

A model that went wrong says one thing for ever, or more than the sound has room for. Letters tell
it, not tokens, of which scripts need different numbers: so every runtime is judged alike. People
repeat themselves, too: in choruses, chants and announcements. So a loop is only what they could not
have said in the time, or what the decoder did not end by itself.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np
import regex

# Letters or digits that are said in a second at most, by script. That of alphabets is `_WIDE` times
# the fastest reference of our corpora (docs/data.md). The others stand to it as what is written of
# a syllable: some 2.4 letters of an alphabet, 1.6 where vowels are marks or a letter is a syllable,
# one Chinese character. Speakers of 17 languages say 4.3 to 9.1 syllables a second (Coupe et al.,
# Science Advances 5, 2019).
_FASTEST, _WIDE = 30, 1.5
_FASTEST_OF = {
    12: "Han",
    20: "Bengali Devanagari Ethiopic Gujarati Gurmukhi Hangul Hiragana Kannada Katakana Malayalam "
    "Myanmar Sinhala Tamil Telugu",
}
TICKS = 60  # of a second: all of these are whole numbers of them
SPARE = TICKS // 3  # that any text may take more
# A loop: said so often, and so many ticks of it again. Of our references the longest has 34.
TIMES, LOOP = 4, TICKS

_LETTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_MARK = regex.compile(r"\S")
_SPACE = regex.compile(r"\s+")


@dataclass(frozen=True)
class _Letter:
    """A letter or digit, with its marks, in a text; `begins`: there is a space before it."""

    start: int
    end: int
    said: str
    ticks: int
    begins: bool


def too_much(text: str, seconds: float) -> bool:
    """Whether not even the fastest of speakers could say a text; only letters and digits count."""
    return sum(map(_ticks, text)) > _most(seconds)


def unsaid(text: str, seconds: float, endless: bool = False) -> list[tuple[int, int]]:
    """What cannot have been said: (start, end) of each such stretch, in characters.

    While the text is `endless`, or would take longer than `seconds` at the pace of the fastest
    reference: of what stands at least `TIMES` times in a row, and would take `LOOP` beyond the
    first time, all but the first. Then what the fastest of speakers would say behind the end. Words
    stay whole where a loop is of words. In no time nothing is said; of any other text something is
    left. A text of marks alone is judged as if they were letters.

    For example `unsaid("Yes. " + "No. " * 20, 1.5)`: `[(8, 85)]`.

    Args:
        seconds: of speech, at most.
        endless: whether it was the decoder's last position that ended the text.
    """
    letters = _letters(text)
    kept = np.arange(len(letters))
    pace = _most(seconds) / _WIDE
    while endless or sum(letters[i].ticks for i in kept) > pace:
        if not (loop := _loop([letters[i] for i in kept])):
            break
        kept = np.delete(kept, slice(*loop))
    ends = np.cumsum([letters[i].ticks for i in kept])
    kept = kept[: np.searchsorted(ends, _most(seconds), side="right")]
    gone = np.ones(len(letters), bool)
    gone[kept] = False
    return [_stretch(text, letters, first, last) for first, last in _runs(gone)]


def without(text: str, stretches: list[tuple[int, int]]) -> str:
    """A text without what `unsaid` found in it."""
    starts, ends = zip(*stretches, strict=True) if stretches else ((), ())
    parts = zip((0, *ends), (*starts, len(text)), strict=True)
    return "".join(text[start:end] for start, end in parts).strip()


def _most(seconds: float) -> float:
    """How much is said in a time at most."""
    return seconds * TICKS + SPARE if seconds else 0


def _letters(text: str) -> list[_Letter]:
    found: list[_Letter] = []
    end = 0
    for match in (_LETTER if _LETTER.search(text) else _MARK).finditer(text):
        begins = not found or _SPACE.search(text, end, match.start()) is not None
        end = match.end()
        ticks = _ticks(match[0][0]) or TICKS // _FASTEST
        found.append(_Letter(match.start(), end, match[0].lower(), ticks, begins))
    return found


@cache
def _ticks(character: str) -> int:
    """How long it takes at least to say a letter or digit; 0 of others."""
    if not character.isalnum():
        return 0
    for fastest, scripts in _FASTEST_OF.items():
        if regex.match("|".join(rf"\p{{{script}}}" for script in scripts.split()), character):
            return TICKS // fastest
    return TICKS // _FASTEST


def _loop(letters: list[_Letter]) -> tuple[int, int] | None:
    """First and last of the letters to leave out, of the loop that takes longest; or None."""
    numbers: dict[str, int] = {}
    said = np.array([numbers.setdefault(x.said, len(numbers)) for x in letters], int)
    clock = np.cumsum([0, *(x.ticks for x in letters)])
    longest, found = LOOP - 1, None
    for period in range(1, len(letters) // TIMES + 1):
        same = said[period:] == said[:-period]
        if np.count_nonzero(same) < (TIMES - 1) * period:  # most periods: no stretch can be as long
            continue
        for start, last in _runs(same):
            end = last + period  # as `letters[start:end]`, its last round may be a part
            again = clock[end] - clock[start + period]
            if end - start >= TIMES * period and again > longest:
                longest, found = again, (start, period, end)
    if found is None:
        return None
    start, period, end = found
    # Where there are words, from the first that begins behind a round; whole rounds, and no part
    # of a word that goes on behind them.
    words = range(start + period, start + 2 * period + 1)
    first = next((i for i in words if letters[i].begins), start + period)
    if end == len(letters):
        return first, end
    last = end - (end - first) % period
    words = range(last, max(first, last - period - 1), -1)
    return first, next((i for i in words if letters[i].begins), last)


def _runs(true: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of `true`, first and last + 1."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in itertools.batched(edges, 2)]


def _stretch(text: str, letters: list[_Letter], first: int, last: int) -> tuple[int, int]:
    """What to take out with letters: marks and spaces up to the words that stay on each side."""
    before = letters[first - 1].end if first else 0
    space = _SPACE.search(text, before, letters[first].start)
    start = space.start() if space else before
    if last == len(letters):
        return start, len(text)
    spaces = [*_SPACE.finditer(text, letters[last - 1].end, letters[last].start)]
    return start, spaces[-1].start() if spaces else letters[last].start
