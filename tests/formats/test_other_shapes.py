"""English-only Whisper and large-v3's shapes, in every format that is written."""

import pytest
import torch
import whisper
from whisper.model import ModelDimensions, sinusoids

from espnet_dq.data.audio import load_audio
from espnet_dq.fetch.weights import default_cache, fetch
from espnet_dq.formats import detect
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.write import write
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights

PLACES = {"openai": "toy.pt", "ct2": "toy_ct2", "ggml": "toy.bin", "packed": "toy.safetensors"}


@pytest.mark.parametrize("mels,vocabulary,layers", [(128, 51866, 4), (80, 51864, 2)])
@pytest.mark.parametrize("form", PLACES)
def test_round_trip_in_float16(mels, vocabulary, layers, form, tmp_path):
    """turbo's proportions (128 mels, more encoder than decoder layers) and English-only ones."""
    dims = ModelDimensions(mels, 1500, 64, 2, layers + 1, vocabulary, 448, 64, 2, layers)
    random = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=random).half()
        for name, shape in weight_shapes(dims).items()
    }
    state["encoder.positional_embedding"] = sinusoids(1500, 64).half()
    write(form, tmp_path / PLACES[form], Weights(dims, state), {}, "float16")
    back = detect.load(tmp_path / PLACES[form])
    assert back.dims == dims
    for name, tensor in state.items():
        assert torch.equal(back.state[name].half(), tensor), name


@pytest.mark.slow
def test_english_only_says_the_same_everywhere(clips, tmp_path):
    """OpenAI's tiny.en: stock openai-whisper, faster-whisper (int8) and whisper.cpp (8 bits)."""
    checkpoint = fetch("tiny.en", default_cache() / "pt", default_cache())
    weights = openai.load(checkpoint)
    said = {}
    for form, grid, runtime in (
        ("ct2", "ct2_int8", "faster-whisper"),
        ("ggml", "ggml_q8_0", "whisper.cpp"),
    ):
        quantized = quantize(weights.state, assign_grids(weights.dims, grid))
        write(form, tmp_path / PLACES[form], weights, quantized, "float16")
        model = load_runtime(runtime, tmp_path / PLACES[form], threads=1)
        assert "ru" not in model.languages
        said[runtime] = [
            model.decode([load_audio(path)], "en")[0].text
            for path, lang, _ in clips
            if lang == "en"
        ]
    model = whisper.load_model(str(checkpoint), device="cpu")
    plain = [
        model.transcribe(
            load_audio(path), temperature=0.0, without_timestamps=True, fp16=False
        )["text"].strip()
        for path, lang, _ in clips
        if lang == "en"
    ]  # fmt: skip
    assert all(plain)
    for texts in said.values():
        same = sum(a.split() == b.split() for a, b in zip(texts, plain, strict=True))
        assert same >= len(plain) - 1, (texts, plain)
