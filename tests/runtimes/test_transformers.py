"""The transformers runtime says what openai-whisper says with the same weights."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from espnet_dq.bin.convert import main as convert
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.errors import InputError
from espnet_dq.formats import hf
from espnet_dq.formats.hf.write import save as save_hf
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.runtimes import guess_runtime, load_runtime
from espnet_dq.runtimes.transformers import _FILES
from tests.toys import noise


@pytest.fixture(scope="module")
def folder(toy_models, tmp_path_factory):
    """The toy model of the other runtimes, as a Hugging Face folder."""
    path = tmp_path_factory.mktemp("hf") / "toy"
    save_hf(path, openai.load(toy_models["torch"]), {}, float_dtype="float32")
    return path


@pytest.fixture(scope="module")
def tiny(tiny_in):
    return tiny_in("hf")


@pytest.mark.slow
def test_guessed_and_described(folder):
    assert guess_runtime(folder) == "transformers"
    runtime = load_runtime("transformers", folder, threads=1)
    assert runtime.compute_type == "float32" and runtime.batch == 8
    assert {"en", "ru", "cs"} < runtime.languages and len(runtime.languages) == 99


@pytest.mark.slow
@pytest.mark.parametrize("beam_size,nj", [(1, 4), (3, 1)])
def test_toy_says_what_torch_says(folder, toy_models, beam_size, nj):
    """Several clips in a batch, none, and a full window."""
    clips = [noise(1, 0), noise(2.5, 1), noise(0, 2), noise(30, 3)]
    said = [
        load_runtime(name, path, threads=1, nj=nj, beam_size=beam_size).decode(clips[:nj], "fr")
        # openai-whisper's beam search takes one clip at a time.
        for name, path in (("torch", toy_models["torch"]), ("transformers", folder))
    ]
    assert said[0] == said[1] and all(each.text for each in said[0])


@pytest.mark.slow
def test_what_beams_say_is_judged_and_tried_again(tiny, real_clip):
    """By the mean score that `generate` itself tells of the same search; and again, as often."""
    runtime = load_runtime("transformers", tiny, threads=1, beam_size=5)
    encoded = runtime._encode([load_audio(real_clip("it", "agent-pass")[0])], runtime.frames)
    attempts = [runtime._attempts(encoded, "it", 0.0) for _ in range(2)]
    assert len(attempts[0]) == 1 and attempts[0] == attempts[1]
    found = runtime.model.generate(
        encoder_outputs=encoded,
        force_unique_generate_call=True,
        return_dict_in_generate=True,
        output_scores=True,
        **runtime._prompt(runtime.options, "it"),
    )
    assert found.beam_indices.any()  # not the first beam all the way
    # It divides by a token more or less, of some 20.
    assert attempts[0][0].logprob == pytest.approx(float(found.sequences_scores[0]), rel=1 / 20)


@pytest.mark.slow
def test_tiny_says_what_torch_says(tiny, weights_dir, clips):
    audio = [(load_audio(path), language) for path, language, _ in clips]
    theirs, ours = (
        load_runtime(name, path, threads=1)
        for name, path in (("torch", weights_dir / "tiny.pt"), ("transformers", tiny))
    )
    for language in ("en", "ru"):
        batch = [samples for samples, lang in audio if lang == language]
        said = ours.decode(batch, language)
        assert all(each.text for each in said) and said == theirs.decode(batch, language)
    samples, language = audio[2]
    (segment,), (expected,) = (x.transcribe(samples, language, False) for x in (ours, theirs))
    assert ours.detect(samples)[0] == language and segment.text == expected.text
    assert segment.start == expected.start and abs(segment.end - expected.end) < 0.02


def test_windows_without_speech_stay_empty(tiny, weights_dir):
    """Tiny hears "you" in silence; whisper.transcribe's rule for such a window takes it away."""
    silence = [np.zeros(3 * SAMPLE_RATE, np.float32), noise(5, 0) / 100]
    theirs = load_runtime("torch", weights_dir / "tiny.pt", threads=1).decode(silence, "en")
    assert load_runtime("transformers", tiny, threads=1).decode(silence, "en") == theirs
    assert "" in [said.text for said in theirs]


@pytest.mark.slow
def test_timestamps_are_within_the_audio(tiny, clips):
    english = [load_audio(path) for path, language, _ in clips if language == "en"][:2]
    quiet = np.zeros(8 * SAMPLE_RATE, np.float32)
    runtime = load_runtime("transformers", tiny, threads=1)
    audio = np.concatenate([english[0], quiet, english[1]])
    assert runtime.detect(audio)[0] == "en"
    segments = runtime.transcribe(audio, "en", True)
    first, last = (runtime.decode([samples], "en")[0].text for samples in english)
    assert segments[0].text.split()[0] == first.split()[0] and segments[0].start < 2
    assert segments[-1].text.split()[-1] == last.split()[-1] and segments[-1].start >= 8
    assert all(a.end <= b.start for a, b in itertools.pairwise(segments))


@pytest.mark.slow
def test_short_window_student(toy_models, tmp_path):
    """15 s at a time, and not a frame more."""
    weights = openai.load(toy_models["torch"])
    positions = "encoder.positional_embedding"
    weights.dims.n_audio_ctx, weights.state[positions] = 750, weights.state[positions][:750]
    save_pt(tmp_path / "short.pt", weights, torch.float32)
    save_hf(tmp_path / "short", weights, {}, float_dtype="float32")
    runtime = load_runtime("transformers", tmp_path / "short", threads=1)
    theirs = load_runtime("torch", tmp_path / "short.pt", threads=1)
    assert runtime.window == theirs.window == 15
    clips = [noise(14, 0), noise(15, 1)]
    assert runtime.decode(clips, "ru") == theirs.decode(clips, "ru")
    heard = [each.transcribe(clips[0], "ru", False) for each in (runtime, theirs)]
    assert heard[0] == heard[1] and heard[0]
    for each in (runtime, theirs):
        with pytest.raises(ValueError, match="1501 frames"):
            each.decode([noise(15.01, 3)], "ru")


@pytest.mark.parametrize("missing", ["generation_config.json", "config.json", "tokenizer.json"])
def test_never_looks_for_a_model_elsewhere(folder, tmp_path, missing):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / missing).unlink()
    with pytest.raises(InputError, match=f"{copy}: .*{missing} is missing"):
        load_runtime("transformers", copy)


OLD = {"begin_suppress_tokens": [220, 50257], "decoder_start_token_id": 50258,
       "eos_token_id": 50257, "max_length": 448, "pad_token_id": 50257}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("missing", [*_FILES, "no_timestamps_token_id"])
def test_what_an_old_folder_lacks_is_written_by_convert(folder, tmp_path, missing):
    copy = shutil.copytree(folder, tmp_path / "copy")
    if missing in _FILES:
        (copy / missing).unlink()
    else:
        (copy / "generation_config.json").write_text(json.dumps(OLD))
    with pytest.raises(InputError, match=f"{missing} is missing: espnet-dq (convert .* hf)") as e:
        load_runtime("transformers", copy)
    command = re.search(r"espnet-dq convert (.*) writes", str(e.value))[1].split()
    convert([*command, "--out", str(tmp_path / "whole")])
    assert len(load_runtime("transformers", tmp_path / "whole", threads=1).languages) == 99


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda t: t.pop("model.decoder.layer_norm.bias"), "decoder.layer_norm.bias is among"),
        (lambda t: t.update(more=torch.zeros(1)), "more is among transformers' unexpected"),
        (lambda t: t.clear(), "is among transformers' missing"),
    ],
)
def test_never_goes_on_with_random_weights(folder, tmp_path, edit, message):
    copy = shutil.copytree(folder, tmp_path / "copy")
    tensors = load_file(copy / hf.FILE)
    edit(tensors)
    save_file(tensors, copy / hf.FILE, {"format": "pt"})
    with pytest.raises(InputError, match=message):
        load_runtime("transformers", copy)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_truncated_is_named(folder, tmp_path, name):
    copy = shutil.copytree(folder, tmp_path / "copy")
    with open(copy / name, "r+b") as f:
        f.truncate((copy / name).stat().st_size // 2)
    with pytest.raises(InputError, match=f"{copy}: transformers cannot load it"):
        load_runtime("transformers", copy)


def test_pickled_weights_are_not_loaded(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    torch.save(load_file(copy / hf.FILE), copy / hf.PICKLE)
    (copy / hf.FILE).unlink()
    with pytest.raises(InputError, match=f"{copy}: transformers cannot load it"):
        load_runtime("transformers", copy)
