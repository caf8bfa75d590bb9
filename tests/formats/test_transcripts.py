"""Converted weights say, word for word, what the packages' own files say in their own runtimes."""

import hashlib

import pytest
import whisper
from faster_whisper import WhisperModel
from pywhispercpp.model import Model as WhisperCpp

from espnet_dq.data.audio import load_audio

# whisper.cpp computes in float16: of a list of prompts tried, about four of five give the same
# words in float32, the others part at a tie. These do not come close to one.
PROMPTS = (
    ("en", "conf-invalid"),
    ("es", "conf-invalid"),
    ("fr", "conf-invalid"),
    ("fr", "demo-congrats"),
    ("it", "conf-onlyperson"),
    ("ru", "conf-onlyperson"),
)


@pytest.fixture(scope="module")
def speech(real_clip):
    """(samples, language) of each prompt."""
    found = (real_clip(*prompt) for prompt in PROMPTS)
    return [(load_audio(path), language) for path, language, _ in found]


@pytest.mark.slow
def test_base_as_faster_whisper_from_the_package(weights_dir, source_files, speech):
    runtime = WhisperModel(
        str(source_files["base"]), device="cpu", compute_type="float32", cpu_threads=1
    )
    model = whisper.load_model(str(weights_dir / "base.pt"), device="cpu")
    options = {
        "temperature": 0.0,
        "condition_on_previous_text": False,
        "without_timestamps": True,
    }
    for audio, language in speech[::2]:
        segments, _ = runtime.transcribe(audio, language=language, beam_size=1, **options)
        theirs = " ".join(segment.text for segment in segments).split()
        ours = model.transcribe(audio, language=language, fp16=False, **options)["text"].split()
        assert ours == theirs and len(ours) > 3, language


@pytest.mark.slow
def test_tiny_as_whisper_cpp_from_the_package(weights_dir, source_files, speech):
    path = source_files["tiny"] / "ggml-tiny.bin"
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
    model = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu")
    for audio, language in speech:
        parts = runtime.transcribe(audio, language=language)
        theirs = " ".join(part.text for part in parts).split()
        # whisper.cpp fills the window with silence, as `pad_or_trim` of samples does.
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(audio))
        options = whisper.DecodingOptions(language=language, without_timestamps=True, fp16=False)
        ours = whisper.decode(model, mel, options).text.split()
        assert ours == theirs and len(ours) > 3, language
