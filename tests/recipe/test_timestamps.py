"""Errors of segments against clips, counted again by looking up words that occur only once."""

import random

import numpy as np
import pytest

from espnet_dq.runtimes.interface import Segment
from timestamps import Times, measure


def made_up(rng: random.Random) -> tuple[list[Segment], list[Segment]]:
    """Clips of words that occur once, and segments cut anywhere, with some words lost or wrong."""
    clips, at, number = [], 0.0, 0
    for _ in range(rng.randint(1, 8)):
        words = [f"w{number + i}" + "x" * rng.randint(0, 5) for i in range(rng.randint(1, 6))]
        start = at + rng.uniform(0.1, 2.0)
        at, number = start + rng.uniform(0.3, 4.0), number + len(words)
        clips.append(Segment(start, at, " ".join(words)))
    heard = [w for clip in clips for w in clip.text.split() if rng.random() > 0.15]
    heard = [w if rng.random() > 0.15 else f"no{w}" for w in heard]
    segments, at = [], 0.0
    while heard:
        count = rng.randint(1, 7)
        start = at + rng.uniform(0, 1)
        at = start + rng.uniform(0.1, 6.0)
        segments.append(Segment(start, at, " ".join(heard[:count])))
        heard = heard[count:]
    return clips, segments


def looked_up(clips: list[Segment], segments: list[Segment]) -> Times:
    recognised = placed = 0
    starts, ends = [], []
    for number, clip in enumerate(clips):
        begins, finishes = [], []
        before = clips[number - 1].end if number else -1e9
        after = clips[number + 1].start if number + 1 < len(clips) else 1e9
        for segment in segments:
            letters = segment.text.replace(" ", "")
            for word in segment.text.split():
                if word not in clip.text.split():
                    continue
                recognised += 1
                begins.append(abs(segment.start - clip.start))
                finishes.append(abs(segment.end - clip.end))
                # `nowN` holds `wN`, but each word is looked for as a whole above and occurs once.
                middle = sum(map(len, segment.text.split(word)[0].split())) + len(word) / 2
                time = segment.start + (segment.end - segment.start) * middle / len(letters)
                placed += (before + clip.start) / 2 <= time < (clip.end + after) / 2
        if begins:
            starts.append(min(begins))
            ends.append(min(finishes))
    return Times(len(clips), recognised, placed, starts, ends)


@pytest.mark.parametrize("seed", range(60))
def test_counts_are_those_of_looking_each_word_up(seed):
    clips, segments = made_up(random.Random(seed))
    found, expected = measure(clips, segments, str.split), looked_up(clips, segments)
    assert (found.clips, found.recognised, found.placed) == (
        expected.clips, expected.recognised, expected.placed,
    )  # fmt: skip
    assert found.starts == expected.starts and found.ends == expected.ends


def test_scores_of_a_late_segment_and_one_over_two_clips():
    clips = [Segment(1, 2, "one two"), Segment(3, 4, "three"), Segment(6, 8, "four five")]
    heard = [Segment(1.5, 2.25, "one two"), Segment(3, 8, "three four nine")]
    times = measure(clips, heard, str.split)
    assert (times.starts, times.ends) == ([0.5, 0, 3], [0.25, 4, 0])
    # "one two three" are where they were said; the middle of "four" is at 3 + 5 * 7 / 13 = 5.7.
    assert (times.recognised, times.placed) == (4, 4)
    scores = times.scores()
    assert scores["start_median"] == 0.5 and scores["end_median"] == 0.25
    assert scores["start_p90"] == pytest.approx(np.quantile([0, 0.5, 3], 0.9))
    assert (scores["found"], scores["placed"]) == (100, 100)


def test_nothing_heard_and_what_is_out_of_place():
    clips = [Segment(0, 1, "one"), Segment(2, 3, "two")]
    silent = measure(clips, [], str.split)
    assert silent == Times(2) and silent.scores()["start_median"] is None
    times = measure(clips, [Segment(0, 1, "one"), Segment(0, 1, "two")], str.split)
    assert times == Times(2, 2, 1, [0, 2], [0, 2])
    assert times.scores()["found"] == 100 and times.scores()["placed"] == 50
