"""How well segments say when something was spoken, in a recording whose clips are known.

The words of all segments are aligned with those of all clips; a recognised word is one that the
alignment finds correct, so it belongs to a clip and to a segment. From those:

- start error of a clip: among the segments with a recognised word of it, how far the nearest start
  is from the clip's; the end error likewise. A segment over several clips is thus an error of all
  but the first one's start and the last one's end.
- found clips: those with a recognised word. Others have no errors of start and end.
- placed words: recognised words whose time lies in their own clip, which is taken to reach to the
  middle of the pauses around it. Segments tell no time of a word: a segment's words are spread
  evenly over it, by their letters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from espnet_dq.runtimes.interface import Segment
from espnet_dq.scoring.align import align


@dataclass(frozen=True)
class Times:
    """What was counted in a recording."""

    clips: int = 0
    recognised: int = 0  # words
    placed: int = 0  # of them
    starts: list[float] = field(default_factory=list)  # seconds, one for each found clip
    ends: list[float] = field(default_factory=list)

    def scores(self) -> dict[str, float | None]:
        """Medians and 90th percentiles in seconds, shares in percent; None where nothing counts."""
        result: dict[str, float | None] = {}
        for name in ("starts", "ends"):
            errors = getattr(self, name)
            for short, percent in (("median", 50), ("p90", 90)):
                value = float(np.percentile(errors, percent)) if errors else None
                result[f"{name.removesuffix('s')}_{short}"] = value
        result["found"] = 100 * len(self.starts) / self.clips if self.clips else None
        result["placed"] = 100 * self.placed / self.recognised if self.recognised else None
        return result


def measure(
    truth: Sequence[Segment], heard: Sequence[Segment], split: Callable[[str], list[str]]
) -> Times:
    """Compare the segments `heard` with the clips of a recording, `truth`, in order of time.

    Args:
        truth: where each clip is, and its text.
        heard: what a runtime gave.
        split: makes the words that are compared of a text.
    """
    spoken = [(clip, word) for clip, each in enumerate(truth) for word in split(each.text)]
    said = [(i, *timed) for i, each in enumerate(heard) for timed in _spread(each, split)]
    middles = [(a.end + b.start) / 2 for a, b in pairwise(truth)]
    edges = [-math.inf, *middles, math.inf]
    found: dict[int, set[int]] = {}
    recognised = placed = ref = hyp = 0
    for column in align([word for _, word in spoken], [word for *_, word in said]):
        if column == "C":
            (clip, _), (segment, time, _) = spoken[ref], said[hyp]
            found.setdefault(clip, set()).add(segment)
            recognised += 1
            placed += edges[clip] <= time < edges[clip + 1]
        ref += column != "I"
        hyp += column != "D"
    starts = [min(abs(heard[i].start - truth[k].start) for i in found[k]) for k in sorted(found)]
    ends = [min(abs(heard[i].end - truth[k].end) for i in found[k]) for k in sorted(found)]
    return Times(len(truth), recognised, placed, starts, ends)


def _spread(segment: Segment, split: Callable[[str], list[str]]) -> list[tuple[float, str]]:
    """A segment's words with the time of the middle of each."""
    words = split(segment.text)
    letters, before, timed = sum(map(len, words)), 0.0, []
    for word in words:
        part = (before + len(word) / 2) / letters
        timed.append((segment.start + part * (segment.end - segment.start), word))
        before += len(word)
    return timed
