"""Long audio in pieces: all of it, once, and no word in two."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.pieces import pieces


def speech(seed, seconds, gap=(0.35, 0.9)):
    """Noisy words of 0.2 to 1.5 s in a quiet noise, and the samples of the gaps between them."""
    rng = np.random.default_rng(seed)
    audio = rng.normal(0, 0.003, int(seconds * SAMPLE_RATE)).astype(np.float32)
    gaps, at = [], 0
    while at < len(audio):
        end = at + int(rng.uniform(0.2, 1.5) * SAMPLE_RATE)
        audio[at:end] += rng.normal(0, rng.uniform(0.03, 0.3), len(audio[at:end]))
        at = end + int(rng.uniform(*gap) * SAMPLE_RATE)
        gaps.append((end, at))
    return audio, gaps


def blocks(audio, size):
    return (audio[i : i + size] for i in range(0, len(audio), size))


@given(st.floats(0.01, 100), st.integers(0, 3), st.sampled_from([160000, 16001, 4000000]))
@settings(max_examples=10, deadline=None)
def test_all_of_it_once(seconds, seed, size):
    audio, _ = speech(seed, seconds)
    cut = list(pieces(blocks(audio, size), 30))
    assert np.array_equal(np.concatenate([piece for _, piece in cut]), audio)
    assert [start for start, _ in cut] == [0, *np.cumsum([len(p) for _, p in cut])[:-1]]
    lengths = [len(piece) / SAMPLE_RATE for _, piece in cut]
    assert max(lengths) <= 30
    if seconds <= 30:
        assert len(cut) == 1
    else:
        assert min(lengths[:-1]) >= 15 and lengths[-1] >= 7.5
    again = list(pieces(blocks(audio, 7777), 30))
    assert [start for start, _ in again] == [start for start, _ in cut]


@pytest.mark.parametrize("offset", [0, 0.1])
def test_cuts_are_between_words(offset):
    audio, gaps = speech(5, 400)
    cuts = [start for start, _ in pieces(blocks(audio + np.float32(offset), 160000), 30)][1:]
    assert len(cuts) >= 13
    for cut in cuts:
        assert any(a + 0.1 * SAMPLE_RATE < cut < b - 0.1 * SAMPLE_RATE for a, b in gaps)
    assert np.mean(np.diff(cuts)) > 25 * SAMPLE_RATE  # windows are filled


def test_the_longer_pause_is_taken_where_words_have_gaps():
    """0.1 s of silence within words, a real pause only where it is less quiet than those."""
    audio, gaps = speech(6, 50, gap=(0.08, 0.12))
    for a, b in gaps:
        audio[a:b] = 0
    pause = slice(21 * SAMPLE_RATE, int(21.5 * SAMPLE_RATE))
    audio[pause] = np.random.default_rng(0).normal(0, 0.004, SAMPLE_RATE // 2)
    (_, first), *_ = pieces([audio], 30)
    assert pause.start < len(first) < pause.stop


def test_silence_is_kept_and_cut_anywhere():
    cut = list(pieces([np.zeros(100 * SAMPLE_RATE, np.float32)], 30))
    assert sum(len(piece) for _, piece in cut) == 100 * SAMPLE_RATE
    assert not list(pieces([], 30))


def test_no_more_is_read_than_needed():
    taken = 0

    def stream():
        nonlocal taken
        for block in blocks(speech(7, 100)[0], SAMPLE_RATE):
            taken += len(block)
            yield block

    for start, _ in pieces(stream(), 10):
        assert taken - start <= 16 * SAMPLE_RATE
