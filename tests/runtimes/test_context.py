"""Short windows: what a runtime hears of a short clip, and how it knows that it may."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import espnet_dq as dq
from espnet_dq.api.models import Model, lost
from espnet_dq.config import WindowConfig
from espnet_dq.data.audio import load_audio, save_wav
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.decode.folder import decode_folder
from espnet_dq.errors import DQError, InputError
from espnet_dq.formats import detect
from espnet_dq.formats.report import Reference
from espnet_dq.formats.verify import compare
from espnet_dq.formats.write import write
from espnet_dq.runtimes import RUNTIMES, guess_runtime, load_runtime
from espnet_dq.runtimes.ctranslate2 import Wrapped
from espnet_dq.runtimes.interface import Hypothesis, short_frames, sounding_frames
from espnet_dq.student.depth import shallow, shorten
from espnet_dq.student.merge import merge
from espnet_dq.whisper.weights import Weights
from tests import toys
from tests.toys import noise

FORMATS = {"openai": "x.pt", "ct2": "ct2", "hf": "hf", "onnx": "onnx", "transformers_js": "js"}


@pytest.fixture(scope="module")
def weights():
    """Of a model that says something else of each clip, and soon has no room."""
    model = toys.make_model(3, 64, 1, text_ctx=40)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if ".cross_attn." in name and tensor.dim() == 2:
                tensor *= 8
    return Weights(model.dims, model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_a_short_window_is_that_of_a_shorter_model(weights, form, tmp_path):
    """2.3 s and a margin of 3 s are 6 whole seconds; a model of 6 s has no other window."""
    write(form, tmp_path / FORMATS[form], weights, {}, "float32")
    write(form, tmp_path / f"short_{FORMATS[form]}", shorten(weights, 6), {}, "float32")
    clips = [noise(2.3, seed) for seed in range(3)]
    texts = {}
    for name, context in ((FORMATS[form],) * 2, (f"short_{FORMATS[form]}", "full")):
        context = "short" if not name.startswith("short_") else context
        runtime = load_runtime(None, tmp_path / name, threads=1, nj=1, context=context)
        said = [h.text for clip in clips for h in runtime.decode([clip], "ru")]
        once = [s.text for s in runtime.transcribe(clips[0], "ru", False, (0.0,))]
        texts[name] = said, once
    assert texts[FORMATS[form]] == texts[f"short_{FORMATS[form]}"]
    whole = load_runtime(None, tmp_path / FORMATS[form], threads=1, nj=1)
    assert not whole.short
    heard = [h.text for clip in clips for h in whole.decode([clip], "ru")]
    assert heard != texts[FORMATS[form]][0]  # else this would show nothing


@pytest.mark.parametrize("form", FORMATS)
def test_with_timestamps_too(weights, form, tmp_path):
    """The loops that the libraries bring fill their windows with zeros, which are cut off."""
    write(form, tmp_path / FORMATS[form], weights, {}, "float32")
    runtime = load_runtime(None, tmp_path / FORMATS[form], threads=1, nj=1, context="short")
    frames = []
    if form == "ct2":

        class Seen(Wrapped):
            def encode(self, features, **options):
                frames.append(features.shape[-1])
                return self._model.encode(features, **options)

        runtime.model.model = Seen(runtime.model.model)
    elif form == "hf":
        convolution = runtime.model.get_encoder().conv1
        convolution.register_forward_hook(lambda _, x, y: frames.append(x[0].shape[-1]))
    else:
        encode = runtime._encode
        runtime._encode = lambda mels: frames.append(mels.shape[-1]) or encode(mels)
    runtime.transcribe(noise(2.3, 0), "ru", True, (0.0,))
    assert frames[0] == 600 and max(frames) <= 600


def test_whisper_cpp(weights, tmp_path):
    write("ggml", tmp_path / "x.bin", replace(weights, any_window=True), {}, "float16")
    full, short = (load_runtime(None, tmp_path / "x.bin", 1, context=c) for c in ("full", "short"))
    near = noise(25, 0)  # with the margin it is the whole window
    assert short.decode([near], "ru") == full.decode([near], "ru")
    clips = [noise(1.2, seed) for seed in range(3)]
    assert short.decode(clips, "ru") != full.decode(clips, "ru")
    assert short._positions(clips[0]) == 256  # of 20 ms, and nothing is filled up
    assert not load_runtime(None, tmp_path / "x.bin", 1, context="auto").short  # it cannot say


@pytest.mark.parametrize("form", [*FORMATS, "packed"])
@pytest.mark.parametrize("any_window", [False, True])
def test_files_say_what_a_model_was_trained_for(weights, form, any_window, tmp_path):
    path = tmp_path / FORMATS.get(form, "x.packed")
    said = replace(weights, any_window=any_window)
    write(form, path, said, {}, "float32")
    assert detect.load(path).any_window is any_window
    assert load_runtime(None, path, threads=1, context="auto").short is any_window

    def reference(expected):
        return Reference(weights.dims, weights.state, {}, {}, weights.state, any_window=expected)

    assert compare(path, reference(any_window)).mismatched == 0
    try:
        assert compare(path, reference(not any_window)).mismatched == 1 + (form == "onnx")
    except DQError as e:
        assert "any_window is" in str(e)


def test_what_the_command_asks_for(weights, tmp_path):
    write("openai", tmp_path / "x.pt", weights, {}, "float32")
    assert not load_runtime("torch", tmp_path / "x.pt", context="auto").short
    with pytest.raises(InputError, match="unknown context 'long'"):
        load_runtime("torch", tmp_path / "x.pt", context="long")


def test_a_runtime_that_knows_none(weights, tmp_path, monkeypatch):
    class Plain:
        compute_type, workers, batch, window, most_tokens = "float32", 1, 1, 30.0, 448
        languages, options = frozenset({"de"}), {}

        def __init__(self, path, threads, nj, beam_size):
            self.threads = threads

        def decode(self, clips, language):
            return [Hypothesis(language) for _ in clips]

    monkeypatch.setitem(RUNTIMES, "plain", Plain)
    with pytest.raises(InputError, match=r"plain always hears whole windows"):
        load_runtime("plain", tmp_path, context="short")
    data = KaldiDir()
    save_wav(tmp_path / "a.wav", noise(1.0, 0))
    data.add("a", tmp_path / "a.wav", "x", "a", "de")
    data.save(tmp_path / "data")
    model, out = tmp_path / "a.wav", tmp_path / "out"  # any file: this runtime reads none
    report = decode_folder(model, "plain", tmp_path / "data", out, context="auto")
    assert report["options"]["short_windows"] is False
    assert read_scp(out / "text") == {"a": "de"}


@pytest.mark.parametrize("form", ["openai", "hf", "onnx"])
def test_what_a_clip_says_does_not_depend_on_its_neighbours(weights, form, tmp_path):
    write(form, tmp_path / FORMATS[form], weights, {}, "float32")
    clips = [noise(1.2, 0), noise(20, 1), noise(1.5, 2)]
    one, three = (
        load_runtime(None, tmp_path / FORMATS[form], 1, nj, context="short") for nj in (1, 3)
    )
    assert three.decode(clips, "ru") == [h for clip in clips for h in one.decode([clip], "ru")]
    assert three.decode([], "ru") == []


def test_a_language_does_not_depend_on_what_was_heard_before(weights, tmp_path):
    """whisper.cpp detects it in as many positions as the clip before needed."""
    write("ggml", tmp_path / "x.bin", weights, {}, "float16")
    long = noise(20, 5)
    runtime = load_runtime("whisper.cpp", tmp_path / "x.bin", 1, context="short")
    first = runtime.detect(long)
    runtime.decode([noise(1, 1)], "ru")
    assert runtime.detect(long) == first


def test_whisper_cpp_has_the_models_positions(weights, tmp_path):
    write("ggml", tmp_path / "x.bin", shorten(weights, 15), {}, "float16")
    runtime = load_runtime("whisper.cpp", tmp_path / "x.bin", 1, context="short")
    assert runtime.window == 15 and runtime._positions(noise(8, 0)) == 750
    assert runtime.decode([noise(8, 0)], "ru")[0].text


@pytest.mark.parametrize("wrong", [1, None, [], "true"])
def test_another_type_is_refused(weights, wrong, tmp_path):
    write("ct2", tmp_path / "ct2", weights, {}, "float32")
    write("hf", tmp_path / "hf", weights, {}, "float32")
    for name in ("ct2", "hf"):
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"any_window": wrong}))
        with pytest.raises(InputError, match=r"config.json: any_window is .* neither true nor"):
            load_runtime(None, tmp_path / name, threads=1)
        with pytest.raises(InputError, match=r"config.json: any_window is .* neither true nor"):
            detect.load(tmp_path / name)


def test_what_is_made_of_a_model_keeps_it(weights):
    said = replace(weights, any_window=True)
    assert shorten(said, 15).any_window and shallow(said, [0], [0]).any_window
    assert merge([said, said], [0.5, 0.5]).any_window
    assert not merge([said, weights], [0.5, 0.5]).any_window
    model = dq.quantize(Model(said), "ggml_q4_0")
    assert model.weights.any_window
    assert "no place for any_window" in lost("ggml", model) and not lost("ct2", model)


def test_frames():
    assert short_frames(0, 3000) == 300
    assert [short_frames(n, 3000) for n in (1, 100, 101, 2700, 2701)] == [400, 400, 500, 3000, 3000]
    mel = np.zeros((80, 3000), np.float32)
    assert sounding_frames(mel) == 0
    mel[5, 220] = -0.5
    assert sounding_frames(mel) == sounding_frames(torch.from_numpy(mel)[None]) == 221


@pytest.mark.parametrize(
    ("window", "any_window"),
    [("full", False), ("random", True), ("batch", True), (2, False), ([10, 30], False)],
)
def test_which_training_makes_a_student_of_short_windows(window, any_window):
    assert WindowConfig(window=window).any_window is any_window


@pytest.mark.slow
@pytest.mark.network
def test_real_speech(tiny_in, clips):
    """tiny, which was not trained for it, still hears what is said, in every runtime."""
    path, language, _ = clips[0]
    audio = load_audio(path)

    def begins(said):
        return "".join(re.findall(r"\w", said[0].text.lower()))[:5]

    full = load_runtime("torch", tiny_in("openai"), 1, 1, beam_size=1)
    (begin,) = {
        begins(said)
        for said in (full.decode([audio], language), full.transcribe(audio, language, True))
    }
    assert begin
    for form in (*FORMATS, "ggml"):
        path = tiny_in(form)
        runtime = guess_runtime(path)
        short = load_runtime(runtime, path, 1, 1, beam_size=1, context="short")
        assert short.short
        assert begins(short.decode([audio], language)) == begin, runtime
        assert begins(short.transcribe(audio, language, True)) == begin, runtime
