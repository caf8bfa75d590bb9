"""Speech that is heard while it is said: `transcribe --live`."""

import io
import os
import signal
import subprocess
import sys
import threading
import time

import jiwer
import numpy as np
import pytest
from faster_whisper import WhisperModel
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.bin.transcribe import main
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.decode.live import EDGE, PAUSE, arriving, last_columns, transcribe_live
from espnet_dq.errors import InputError
from espnet_dq.runtimes import Segment, load_runtime
from espnet_dq.runtimes.interface import Hypothesis
from tests.decode.fake import FakeRuntime

WORDS = BasicTextNormalizer()


class Listening(FakeRuntime):
    """Says how many clips it has heard, and keeps them."""

    def __init__(self, window=30.0, sure=0.9):
        self.window, self.sure, self.heard, self.partly, self.asked = window, sure, [], [], 0

    def detect(self, audio):
        self.asked += 1
        return "it", self.sure

    def decode(self, clips, language):
        self.partly += clips
        return [Hypothesis("...")]

    def transcribe(self, audio, language, timestamps, temperatures=()):
        self.heard.append(audio)
        return [Segment(0.0, len(audio) / SAMPLE_RATE, f"{language} {len(self.heard)}")]


def blocks(audio, seconds=1.0):
    step = round(seconds * SAMPLE_RATE)
    return [audio[at : at + step] for at in range(0, len(audio), step)]


def with_pauses(clips, seconds=2.0):
    """(samples,) of clips in faint noise, with pauses around each, and where they begin."""
    gap, parts, starts = np.zeros(round(seconds * SAMPLE_RATE), np.float32), [], []
    for clip in clips:
        parts.append(gap)
        starts.append(sum(map(len, parts)) / SAMPLE_RATE)
        parts.append(clip / np.abs(clip).max() / 2)
    audio = np.concatenate([*parts, gap])
    noise = np.random.default_rng(0).normal(0, 1e-3, len(audio))
    return (audio + noise).astype(np.float32), starts


def raw(audio):
    return (audio * 32767).astype("<i2").tobytes()


@pytest.mark.slow
def test_utterances_come_one_by_one_as_they_end(real_clip, tiny_in):
    """With the words that faster-whisper hears in each clip alone."""
    paths = [real_clip("it", name)[0] for name in ("demo-abouttotry", "demo-congrats")]
    clips = [load_audio(path) for path in paths]
    audio, starts = with_pauses(clips)
    runtime, said, at = load_runtime("faster-whisper", tiny_in("ct2"), 1, nj=1), [], 0.0

    def counted():
        nonlocal at
        for block in blocks(audio, 4.0):  # each is heard in 30 s
            at += len(block) / SAMPLE_RATE
            yield block

    found = []
    for segment in transcribe_live(runtime, counted(), "it", said.append):
        found.append((segment, at, [text for text in said if text]))
        said.clear()
    model = WhisperModel(str(tiny_in("ct2")), device="cpu", compute_type="default", cpu_threads=1)
    for (segment, when, partly), clip, start in zip(found, clips, starts, strict=True):
        parts, _ = model.transcribe(clip, language="it", beam_size=1, temperature=0.0)
        expected = WORDS("".join(part.text for part in parts)).split()
        heard = WORDS(segment.text).split()
        assert len(expected) > 5 and jiwer.wer(" ".join(expected), " ".join(heard)) <= 0.25
        end = start + len(clip) / SAMPLE_RATE
        assert start - EDGE - 0.5 <= segment.start <= start + 1
        assert end - 1 <= segment.end <= end + 1
        assert when <= end + PAUSE + 4.1  # what is waited for, and a block
        assert partly and set(WORDS(partly[-1]).split()) & set(heard)


def test_what_never_pauses_is_heard_once_in_windows(real_clip):
    """Each sample of speech, and no word twice, however it arrives."""
    speech = load_audio(real_clip("it", "demo-abouttotry")[0])
    loud = np.abs(speech) > 0.02
    speech = np.tile(speech[np.argmax(loud) : len(speech) - np.argmax(loud[::-1])], 3)
    for seconds in (0.7, 1.0, 60.0):
        runtime = Listening(window=5.0)
        found = list(transcribe_live(runtime, blocks(speech, seconds), "it"))
        assert len(found) >= len(speech) / SAMPLE_RATE / 5
        assert all(len(clip) <= 5 * SAMPLE_RATE for clip in runtime.heard + runtime.partly)
        at = 0
        for segment, clip in zip(found, runtime.heard, strict=True):
            first = round(segment.start * SAMPLE_RATE)
            assert first >= at and np.array_equal(speech[first : first + len(clip)], clip)
            at = first + len(clip)
        heard = sum(map(len, runtime.heard))
        assert heard > 0.9 * len(speech)


def test_nothing_is_said_where_nobody_speaks():
    runtime, partial = Listening(), []
    noise = np.random.default_rng(0).normal(0, 0.01, 20 * SAMPLE_RATE).astype(np.float32)
    assert not list(transcribe_live(runtime, blocks(noise), None, partial.append))
    assert not runtime.heard and not runtime.asked and not any(partial)


def test_the_language_is_that_of_the_first_sure_utterance(clips):
    """Of a whole one: what is heard of one that goes on may sound otherwise."""

    class Wavering(Listening):
        def detect(self, audio):
            found, sure = super().detect(audio)
            return ("en" if len(self.partly) == len(self.heard) == 0 else found), sure

    audio, _ = with_pauses([load_audio(path) for path, *_ in clips[:3]])
    for sure, told_of in ((0.9, [("it", 0.9)]), (0.3, [])):
        runtime, told = Wavering(sure=sure), []
        found = list(
            transcribe_live(runtime, blocks(audio), None, detected=lambda *x, of=told: of.append(x))
        )
        assert len(found) >= 3 and {segment.language for segment in found} == {"it"}
        assert told == told_of
        assert runtime.asked >= len(found) or sure == 0.9


def test_a_slow_listener_loses_nothing():
    rng = np.random.default_rng(0)
    samples = rng.integers(-(2**15), 2**15, 20 * SAMPLE_RATE).astype("<i2")
    read, write = os.pipe()

    def speak():
        with open(write, "wb", buffering=0) as to:
            data = samples.tobytes() + b"\1"  # half a sample is none
            for at in range(0, len(data), 30001):
                to.write(data[at : at + 30001])

    threading.Thread(target=speak).start()
    found = []
    with open(read, "rb", buffering=0) as stream:
        for block in arriving(stream, threading.Event()):
            found.append(block)
            time.sleep(0.05)
    assert np.array_equal(np.concatenate(found), samples / np.float32(32768))
    assert all(len(block) >= SAMPLE_RATE for block in found[:-1])


def test_nothing_is_waited_for_once_it_has_ended():
    ended = threading.Event()
    read, write = os.pipe()
    os.write(write, b"\0\1" * SAMPLE_RATE)
    with open(read, "rb", buffering=0) as stream, open(write, "wb"):
        parts = arriving(stream, ended)
        assert len(next(parts)) == SAMPLE_RATE
        os.write(write, b"\0\1" * 1600)  # less than 0.1 s is not heard
        time.sleep(0.3)
        ended.set()
        speaks = threading.Thread(target=lambda: [os.write(write, b"\0" * 320) for _ in range(99)])
        speaks.start()
        assert 1600 <= sum(map(len, parts)) < 1600 + 100 * 160
        speaks.join()


@pytest.mark.parametrize("head", [b"RIFF", b"fLaC", b"OggS", b"ID3\4"])
def test_files_are_no_samples(head):
    with pytest.raises(InputError, match=r"^stdin: is an? \w+ file, not samples alone"):
        list(arriving(io.BytesIO(head + bytes(100)), threading.Event()))


def test_a_microphone_that_is_gone():
    class Gone(io.RawIOBase):
        def read(self, size=-1):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(arriving(Gone(), threading.Event()))


def test_the_end_of_a_text_fits_into_a_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "11")
    assert last_columns("ab") == "ab"
    assert last_columns("0123456789abc") == "3456789abc"
    assert last_columns("漢字漢字漢字") == "字漢字漢字"
    assert last_columns("x" * 5 + "e\u0301" * 10) == "e\u0301" * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["x.wav", "--live"], "x.wav: --live hears standard input, and no file"),
        (["--live", "--format", "srt"], "--format: not with --live"),
        (["--live", "--out", "x"], "--out: not with --live"),
        (["--live", "--channel", "0"], "--channel: not with --live"),
        ([], "AUDIO is needed, or --live"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(InputError, match=message):
        main([*options, "--model", "openai:tiny"])


@pytest.mark.slow
def test_ctrl_c_ends_it_with_what_was_said(real_clip, tiny_in):
    audio, _ = with_pauses([load_audio(real_clip("it", "demo-abouttotry")[0])] * 2, 1.5)
    command = [sys.executable, "-P", "-m", "espnet_dq.bin.transcribe", "--live", "--timestamps"]
    command += ["--model", str(tiny_in("ct2")), "--beam_size", "1", "--threads", "1"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdin.write(raw(audio[: -2 * SAMPLE_RATE]))  # the second one goes on
    child.stdin.flush()
    first = child.stdout.readline()
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=100)
    lines = [first, *out.splitlines(keepends=True)]
    assert child.returncode == 0 and err.decode() == "transcribe: stdin: language it\n"
    assert len(lines) == 2 and lines[0].startswith(b"[0:00:01.") and len(lines[1]) > 40
