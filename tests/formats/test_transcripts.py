"""Converted weights say what the packages' own files say in their own runtimes."""

import hashlib

import pytest
import whisper
from faster_whisper import WhisperModel
from pywhispercpp.model import Model as WhisperCpp

from espnet_dq.data.audio import load_audio
from espnet_dq.whisper.fetch import package_files


@pytest.fixture(scope="module")
def speech(clips):
    """(samples, language) of three clips."""
    return [(load_audio(path), language) for path, language, _ in clips[:3]]


def by_openai(checkpoint, speech):
    """Words by stock openai-whisper: greedy, no timestamps, no fallback."""
    model = whisper.load_model(str(checkpoint), device="cpu")
    return [
        model.transcribe(
            audio,
            language=language,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
            fp16=False,
        )["text"].split()
        for audio, language in speech
    ]


def test_base_as_faster_whisper_from_the_package(weights_dir, speech):
    runtime = WhisperModel(
        str(package_files("base")), device="cpu", compute_type="float32", cpu_threads=1
    )
    theirs = []
    for audio, language in speech:
        segments, _ = runtime.transcribe(
            audio,
            language=language,
            beam_size=1,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
        )
        theirs.append(" ".join(segment.text for segment in segments).split())
    assert all(theirs)
    assert by_openai(weights_dir / "base.pt", speech) == theirs


def test_tiny_as_whisper_cpp_from_the_package(weights_dir, speech):
    path = package_files("tiny") / "ggml-tiny.bin"
    with open(path, "rb") as f:  # the value that whisper.cpp publishes
        assert hashlib.file_digest(f, "sha1").hexdigest() == (
            "bd577a113a864445d4c299885e0cb97d4ba92b5f"
        )
    runtime = WhisperCpp(
        str(path),
        n_threads=1,
        no_context=True,
        no_timestamps=True,
        single_segment=True,
        temperature=0.0,
        temperature_inc=0.0,
        suppress_nst=True,
        print_progress=False,
        print_realtime=False,
        redirect_whispercpp_logs_to=None,
    )
    theirs = []
    for audio, language in speech:
        segments = runtime.transcribe(audio, language=language)
        theirs.append(" ".join(segment.text for segment in segments).split())
    assert all(theirs)
    assert by_openai(weights_dir / "tiny.pt", speech) == theirs
