"""Long audio: every word once, silence and noise, and what no runtime takes."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.decode import halves
from espnet_dq.decode.transcribe import spoken_language, transcribe
from espnet_dq.runtimes.interface import Hypothesis, Segment
from tests.decode.fake import FakeRuntime, Marking, Unsure, quiet, spoken


def test_every_word_once_and_at_its_time(tmp_path):
    audio, starts = spoken(500)
    save_wav(tmp_path / "long.wav", audio)
    found = list(transcribe(FakeRuntime(), tmp_path / "long.wav", "it", True))
    assert [s.text for s in found] == [f"w{k}" for k in range(len(starts))]
    assert np.allclose([s.start * SAMPLE_RATE for s in found], starts, atol=0.01)
    assert all(a.end <= b.start and a.language == "it" for a, b in pairwise(found))
    whole = list(transcribe(FakeRuntime(), tmp_path / "long.wav", "it", False))
    assert len(whole) >= 500 / 30
    assert " ".join(s.text for s in whole) == " ".join(s.text for s in found)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [16000, 8000])  # by soundfile and by PyAV
def test_memory_does_not_grow_with_the_length(rate, tmp_path):
    peaks = []
    for minutes in (2, 8):
        path = tmp_path / f"{minutes}.wav"
        audio, _ = spoken(minutes * 60)
        soundfile.write(path, audio[:: SAMPLE_RATE // rate], rate)
        tracemalloc.start()
        texts = [s.text for s in transcribe(FakeRuntime(), path, "it", False)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(texts) >= minutes * 2
    assert peaks[1] < 1.1 * peaks[0] < 40e6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zeros", "dither", "hum", "offset", "drift"])
def test_silence_says_nothing_and_has_no_vote(kind, tmp_path):
    words = spoken(8)[0] + quiet(kind, 8)
    path = tmp_path / "x.wav"
    save_wav(path, np.concatenate([quiet(kind), words, quiet(kind, 70), words, quiet(kind)]))
    runtime = Unsure()
    assert spoken_language(runtime, path)[0] == "it" and len(runtime.asked) == 1
    found = list(transcribe(runtime, path, "it", False))
    for segment in found:  # with 0.3 s of silence at most
        assert any(at - 0.3 <= segment.start < segment.end <= at + 8.3 for at in (35, 113))
    assert {int(segment.start) // 60 for segment in found} == {0, 1}


def test_noise_does_not_outvote_speech(tmp_path):
    """Minutes of it, before and behind; alone, it is what the model thinks of it, unsure."""
    noise = np.random.default_rng(0).normal(0, 0.005, 100 * SAMPLE_RATE).astype(np.float32)
    save_wav(tmp_path / "x.wav", np.concatenate([noise, spoken(8)[0], noise]))
    runtime = Unsure()
    assert spoken_language(runtime, tmp_path / "x.wav") == ("it", 0.9)
    assert sum(runtime.asked) < 140  # not to the end
    save_wav(tmp_path / "y.wav", noise)
    assert spoken_language(runtime, tmp_path / "y.wav") == ("en", 0.19)


def test_clips_of_no_time_are_long_enough_for_every_runtime(monkeypatch, tmp_path):
    """Of one frame faster-whisper has no times of words, of less than 0.1 s whisper.cpp nothing."""
    asked = []

    class Listening(Marking):
        def detect(self, audio):
            asked.append(len(audio))
            return "it", 0.9

        def transcribe(self, audio, *_):
            asked.append(len(audio))
            return [Segment(0, 30, "a")]

        def decode(self, clips, language):
            asked.extend(map(len, clips))
            return [Hypothesis("a") for _ in clips]

    noise = np.random.default_rng(0).normal(0, 0.1, 300).astype(np.float32)
    save_wav(tmp_path / "x.wav", noise)
    (found,) = transcribe(Listening(), tmp_path / "x.wav", None, True)
    assert (found.start, found.end) == (0, 300 / SAMPLE_RATE)
    halves.decode(Listening(), [noise, np.tile(noise, 6)], "it")
    assert asked == [1600, 1600, 1600, 1800]
