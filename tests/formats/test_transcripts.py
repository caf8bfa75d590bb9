"""Converted weights say what the packages' own files say in their own runtimes."""

import hashlib

import pytest
import torch
import whisper
from faster_whisper import WhisperModel
from pywhispercpp.model import Model as WhisperCpp
from whisper.tokenizer import get_tokenizer

from espnet_dq.data.audio import load_audio
from espnet_dq.whisper.fetch import package_files


@pytest.fixture(scope="module")
def speech(clips):
    """(samples, language) of each clip."""
    return [(load_audio(path), language) for path, language, _ in clips]


def by_openai(model, audio, language):
    """What stock openai-whisper says: greedy, no timestamps, no fallback."""
    return model.transcribe(
        audio,
        language=language,
        temperature=0.0,
        without_timestamps=True,
        condition_on_previous_text=False,
        fp16=False,
    )["text"]


def loss_at_first_difference(model, audio, language, ours, theirs):
    """By how much the logit of the first token that `theirs` has otherwise is below the best."""
    tokenizer = get_tokenizer(multilingual=True)
    prompt = [tokenizer.sot, tokenizer.to_language_token(language)]
    prompt += [tokenizer.transcribe, tokenizer.no_timestamps]
    a, b = ([*tokenizer.encode(f" {text.strip()}"), tokenizer.eot] for text in (ours, theirs))
    at = next(i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1])
    mel = whisper.log_mel_spectrogram(audio, padding=whisper.audio.N_SAMPLES)
    mel = whisper.pad_or_trim(mel, whisper.audio.N_FRAMES)
    with torch.no_grad():
        tokens = torch.tensor([[*prompt, *b[:at]]])
        logits = model.decoder(tokens, model.encoder(mel[None]))[0, -1]
    return float(logits[a[at]] - logits[b[at]])


def test_base_as_faster_whisper_from_the_package(weights_dir, speech):
    runtime = WhisperModel(
        str(package_files("base")), device="cpu", compute_type="float32", cpu_threads=1
    )
    theirs = []
    for audio, language in speech[:3]:
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
    model = whisper.load_model(str(weights_dir / "base.pt"), device="cpu")
    assert [by_openai(model, *clip).split() for clip in speech[:3]] == theirs


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
    model = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu")
    same = 0
    for audio, language in speech:
        ours = by_openai(model, audio, language)
        theirs = " ".join(part.text for part in runtime.transcribe(audio, language=language))
        if ours.split() == theirs.split():
            same += 1
        else:
            # whisper.cpp computes in float16, so a tie may go the other way, and with it all
            # that follows; anything but a tie is a difference in the weights.
            assert loss_at_first_difference(model, audio, language, ours, theirs) < 0.3
    assert same >= 2
