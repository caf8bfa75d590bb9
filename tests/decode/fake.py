"""A runtime that hears exactly what is in made-up samples, and runtimes like it."""

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.runtimes.interface import Hypothesis, Segment

SHORTEST = 400  # samples of what is taken for a word
FIRST, STEP = 4000, 8  # word k is a square wave of FIRST + k STEP in 16 bits


def spoken(seconds, seed=0):
    """(samples,) float32 of words that `FakeRuntime` knows, and the samples where they begin."""
    rng = np.random.default_rng(seed)
    audio, starts, at = np.zeros(int(seconds * SAMPLE_RATE), np.float32), [], 800
    while at + 2 * SAMPLE_RATE < len(audio):
        k = len(starts)
        audio[at : at + length_of(k)] = (FIRST + STEP * k) / 32768
        audio[at + 1 : at + length_of(k) : 2] *= -1
        starts.append(at)
        at += length_of(k) + int(rng.uniform(0.35, 2.0) * SAMPLE_RATE)
    return audio, starts


def length_of(k):
    return 4000 + k % 7 * 1001


class FakeRuntime:
    """Hears exactly what is in the samples; half a word is no word."""

    window, languages, most_tokens = 30.0, frozenset(["en", "it"]), 444

    def detect(self, audio):
        return "it", 0.9

    def transcribe(self, audio, language, timestamps, temperatures):
        assert len(audio) <= 30 * SAMPLE_RATE and language in self.languages
        loud = np.flatnonzero(np.diff(np.concatenate([[0], audio != 0, [0]]).astype(int)))
        found = []
        for a, b in loud.reshape(-1, 2):
            if b - a < SHORTEST:  # silence that was resampled
                continue
            k = round((abs(float(audio[a])) * 32768 - FIRST) / STEP)
            text = f"w{k}" if b - a == length_of(k) else f"part-of-w{k}"
            # As models do, it puts the last time behind the end.
            end = 30.0 if b == loud[-1] else b / SAMPLE_RATE
            found.append(Segment(a / SAMPLE_RATE, end, text))
        if not timestamps:
            found = [Segment(0, len(audio) / SAMPLE_RATE, " ".join(s.text for s in found))]
        return found


class Unsure(FakeRuntime):
    """Takes noise for a bit of English, and is sure of words only."""

    def __init__(self):
        self.asked, self.heard = [], []

    def detect(self, audio):
        self.asked.append(len(audio) / SAMPLE_RATE)
        return ("en", 0.19) if 0 < np.abs(audio).max() < 0.05 else ("it", 0.9)

    def transcribe(self, audio, language, timestamps, temperatures):
        self.heard.append(language)
        return [Segment(0, len(audio) / SAMPLE_RATE, "ciao")]


class Marking(FakeRuntime):
    """Says what byte tokens and right-to-left subtitles bring along."""

    batch, workers, threads, most_tokens = 1, 1, 1, 444
    compute_type, options = "float32", {}
    text = (
        "\u202b שלום\u202c \x00\x1b[2J\u200f\u2067עולם\u2069\r\n می\u200cروم <क्\u200dष>\u0085\u061c"
    )

    def transcribe(self, *_):
        return [Segment(0, 1, self.text)]

    def decode(self, clips, language):
        return [Hypothesis(self.text) for _ in clips]


def quiet(kind, seconds=35):
    """What nobody can hear."""
    rng, t = np.random.default_rng(0), np.arange(seconds * SAMPLE_RATE) / SAMPLE_RATE
    return {
        "zeros": np.zeros_like(t),
        "dither": rng.integers(-1, 2, len(t)) / 32768,
        "hum": 10 ** (-71 / 20) * np.sin(2 * np.pi * 50 * t),
        "offset": np.full_like(t, 0.1),
        "drift": 0.01 * np.sin(2 * np.pi * t / 300),
    }[kind].astype(np.float32)
