"""A trimmed tiny says in every runtime what tiny says when it may not use the other tokens."""

import faster_whisper
import jiwer
import numpy as np
import pytest
import torch
import whisper
from whisper.normalizers import BasicTextNormalizer
from whisper.tokenizer import get_tokenizer

from espnet_dq.bin.convert import main as convert
from espnet_dq.data.audio import load_audio
from espnet_dq.formats.openai import read as openai
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.dims import vocabulary_tokenizer
from tests.formats.onnx_files import heard_by_sherpa

RUNTIMES = {"torch": "openai", "faster-whisper": "ct2", "transformers": "hf", "onnx": "onnx"}


@pytest.fixture(scope="module")
def speech(clips):
    """Language -> clips."""
    return {
        language: [load_audio(path) for path, lang, _ in clips if lang == language]
        for language in ("en", "es")
    }


@pytest.fixture(scope="module")
def trimmed(weights_dir, real_texts, trim):
    texts = [text for language in ("en", "es") for text in real_texts(language).values()]
    return trim(weights_dir / "tiny.pt", texts)


@pytest.fixture(scope="module")
def kept(trimmed):
    return {*openai.load(trimmed).dims.kept}


@pytest.fixture(scope="module")
def expected(weights_dir, kept, speech):
    """openai-whisper's texts by the whole tiny, with what was left out suppressed; and without."""
    model = whisper.load_model(str(weights_dir / "tiny.pt"), device="cpu")
    dropped, found = [i for i in range(51865) if i not in kept], []
    for suppressed in ([-1, *dropped], [-1]):
        texts = {}
        for language, clips in speech.items():
            mels = torch.stack(
                [
                    whisper.pad_or_trim(
                        whisper.log_mel_spectrogram(c, padding=480000)[:, :-3000], 3000
                    )
                    for c in clips
                ]
            )
            options = whisper.DecodingOptions(
                language=language, without_timestamps=True, fp16=False, suppress_tokens=suppressed
            )
            texts[language] = [r.text.strip() for r in model.decode(mels, options)]
        found.append(texts)
    return found


@pytest.fixture(scope="module")
def models(trimmed, tmp_path_factory):
    """Runtime -> the trimmed tiny in its format."""
    folder = tmp_path_factory.mktemp("models")
    for form in list(RUNTIMES.values())[1:]:
        options = ["--from", str(trimmed), "--to", form, "--out", str(folder / form)]
        assert convert(options) == 0
    return {name: folder / form for name, form in RUNTIMES.items()} | {"torch": trimmed}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNTIMES)
def test_texts(name, models, speech, expected, kept):
    runtime = load_runtime(name, models[name], threads=1)
    assert len(runtime.languages) == 99
    texts = {
        language: [said.text for said in runtime.decode(clips, language)]
        for language, clips in speech.items()
    }
    assert texts == expected[0]
    # The whole model's own text, unless that needs a token that was left out ("une|ga").
    encode = get_tokenizer(True).encode
    same = [
        a == b
        for language in speech
        for a, b in zip(texts[language], expected[1][language], strict=True)
        if {*encode(f" {b}")} <= kept
    ]
    assert len(same) == 2 and all(same)
    assert runtime.detect(speech["es"][0])[0] == "es"
    (segment,) = runtime.transcribe(speech["es"][0], "es", True)
    assert segment.start == 0 and 1 < segment.end < 10


@pytest.mark.parametrize("form", ["openai", "onnx"])
def test_a_prompt_is_spelled_by_the_tokens_that_are_there(form, save_toy, trim, tmp_path):
    """A name is what a prompt is for, and none of its tokens may have been kept."""
    path, prompt = trim(save_toy(), ["Привет, мир."]), "Gödel, Łukasiewicz"
    tokenizer = vocabulary_tokenizer(openai.load(path).dims)
    assert len(tokenizer.encode(prompt)) > len(get_tokenizer(True).encode(prompt))
    if form == "onnx":
        assert convert(["--from", str(path), "--to", form, "--out", str(tmp_path / form)]) == 0
        path = tmp_path / form
    runtime, given = load_runtime(None, path, threads=1, prompt=prompt), []
    decoder = runtime.model.decoder
    decoder.register_forward_pre_hook(lambda _, args: given.append(args[0][0].tolist()))
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    for timestamps in (False, True):
        given.clear()
        runtime.transcribe(noise, "ru", timestamps, (0.0,))
        first, *words = given[0]
        assert first == tokenizer.sot_prev
        assert tokenizer.decode(words[: words.index(tokenizer.sot)]) == f" {prompt}"
    (left_out,) = get_tokenizer(True).encode(" hello")
    with pytest.raises(ValueError, match=f"token {left_out} is not in the model's vocabulary"):
        decoder(torch.tensor([[left_out]]), torch.zeros(1))


def test_stock_faster_whisper(models, speech, expected):
    """As it comes: CTranslate2 tells a multilingual vocabulary by one token, which is kept."""
    model = faster_whisper.WhisperModel(str(models["faster-whisper"]), "cpu", cpu_threads=1)
    for language, clips in speech.items():
        segments, _ = model.transcribe(
            clips[0], language=language, beam_size=1, temperature=0.0, without_timestamps=True
        )
        assert " ".join(s.text.strip() for s in segments) == expected[0][language][0]
        assert model.transcribe(clips[0])[1].language == language


def test_sherpa_onnx(models, speech, expected):
    for language, clips in speech.items():
        said, _ = heard_by_sherpa(models["onnx"], language, clips[0])
        # It hears a shorter window, so some words may differ.
        words = [BasicTextNormalizer()(t) for t in (expected[0][language][0], said)]
        assert jiwer.cer(*words) < 0.15, words
