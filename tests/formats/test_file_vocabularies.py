"""A file's own tokens say what its vocabulary is: fine-tunes that transformers and others saved."""

import json
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from ctranslate2.models import Whisper as CTranslate2Whisper
from safetensors.torch import load_file, save_file
from transformers import WhisperForConditionalGeneration, WhisperProcessor, WhisperTokenizer
from whisper.model import ModelDimensions, sinusoids

from espnet_dq.bin.convert import main as convert
from espnet_dq.errors import InputError
from espnet_dq.fetch.weights import package_files
from espnet_dq.formats import detect, hf, integers, json_file
from espnet_dq.formats.ct2 import read as ctranslate2
from espnet_dq.formats.hf import vocabulary as hf_vocabulary
from espnet_dq.formats.hf.write import save as save_hf
from espnet_dq.formats.report import Reference
from espnet_dq.formats.verify import compare
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes
from espnet_dq.whisper.vocabulary import token_strings
from espnet_dq.whisper.weights import EMBEDDING, Weights

ROWS = "model.decoder.embed_tokens.weight"
SOUND = np.random.default_rng(0).normal(0, 0.1, 48000).astype(np.float32)


def weights(n_vocab=51865):
    dims = ModelDimensions(80, 1500, 64, 2, 1, n_vocab, 448, 64, 2, 1)
    random = torch.Generator().manual_seed(3)
    shapes = weight_shapes(dims).items()
    state = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes}
    state |= {n: torch.full_like(t, n.endswith("weight")) for n, t in state.items() if "ln" in n}
    state[EMBEDDING] *= 10  # sure of each token
    return Weights(dims, state | {"encoder.positional_embedding": sinusoids(1500, 64)})


def fine_tune(base, out, add, special=False, multiple=None):
    """What a user of transformers does; then it says `<|cs|>`, and "hello", `add`, "world"."""
    processor = WhisperProcessor.from_pretrained(base)
    model = WhisperForConditionalGeneration.from_pretrained(base)
    tokenizer = processor.tokenizer
    tokenizer.add_tokens(add, special_tokens=special)
    if multiple or len(tokenizer) > model.config.vocab_size:
        size = max(len(tokenizer), model.config.vocab_size)
        model.resize_token_embeddings(size, pad_to_multiple_of=multiple, mean_resizing=False)
    rows, positions = model.model.decoder.embed_tokens.weight, model.model.decoder.embed_positions
    said = ["<|cs|>", "<|transcribe|>", "<|0.00|>", "Ġhello", *add, "Ġworld", "<|2.00|>"]
    ids = tokenizer.convert_tokens_to_ids([*said, "<|endoftext|>"])
    with torch.no_grad():
        rows[51865:].normal_(std=1, generator=torch.Generator().manual_seed(1))
        positions.weight[: len(ids)] = 200 * rows[ids]
        positions.weight[len(ids) :] = 200 * rows[ids[-1]]
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "hf"
    save_hf(folder, weights(), {}, float_dtype="float32")
    return folder


FINE_TUNES = {
    "text": {"add": ["[UM]"]},
    "special": {"add": ["<|noise|>"], "special": True},
    "yue": {"add": ["<|yue|>"], "special": True},
    "padded": {"add": [], "multiple": 64},
    "both": {"add": ["[UM]", "<|gsw|>"], "multiple": 8},
}


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """Function: name in `FINE_TUNES` -> its folder; a worker makes those that its tests ask for."""
    folder = tmp_path_factory.mktemp("tuned")
    return cache(lambda name: fine_tune(base, folder / name, **FINE_TUNES[name]))


def rows_of(folder):
    """Token -> its row, by what transformers says of a folder."""
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    rows = load_file(folder / hf.FILE)[ROWS]
    return {token: rows[i] for token, i in tokenizer.get_vocab().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FINE_TUNES)
def test_each_token_keeps_its_row(name, tuned):
    found = detect.load(tuned(name))
    strings = token_strings(any_tokenizer(found.dims).encoding)
    expected = rows_of(tuned(name))
    assert {*strings} == expected.keys() and len(strings) == found.dims.n_vocab
    for token, row in zip(strings, found.state[EMBEDDING], strict=True):
        assert torch.equal(row, expected[token]), token


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ct2", "hf", "onnx", "packed"])
def test_every_format_has_it(form, tuned, tmp_path):
    """On a grid where there is one; read by its runtime's own library where that tells tokens."""
    source, out = detect.load(tuned("both")), tmp_path / "out"
    assert source.dims.added == ("[UM]", "<|gsw|>")
    grid = {"ct2": "ct2_int8", "onnx": "onnx_int8"}.get(form, "uniform4")
    command = ["--to", form, "--grid", grid, "--out", str(out)]
    assert convert(["--from", str(tuned("both")), *command]) == 0
    assert detect.load(out).dims == source.dims
    grids = assign_grids(source.dims, grid)
    on_grid = {name: get_grid(g).fake(source.state[name]) for name, g in grids.items()}
    scales = {name: q.scale for name, q in quantize(source.state, grids).items()}
    reference = Reference(source.dims, source.state | on_grid, grids, scales, source.state)
    assert compare(out, reference).mismatched == 0
    kept = integers.load(out)
    assert form == "hf" or torch.equal(
        get_grid(grid).dequantize(kept[EMBEDDING]), on_grid[EMBEDDING]
    )
    strings = token_strings(any_tokenizer(source.dims).encoding)
    if form == "hf":
        rows = rows_of(out)
        assert all(torch.equal(rows[t], on_grid[EMBEDDING][i]) for i, t in enumerate(strings))
    if form == "ct2":
        assert json.loads((out / "vocabulary.json").read_text()) == strings
    if form == "onnx":
        lines = (out / "tokens.txt").read_text().splitlines()
        assert lines[50257:] == [f"W1VNXQ== {50257}", f"PHxnc3d8Pg== {50258}"]


@pytest.mark.slow
@pytest.mark.parametrize("form,runtime", [("ct2", "faster-whisper"), ("hf", "transformers")])
@pytest.mark.parametrize("name,text", [("text", "hello[UM] world"), ("special", "hello world")])
def test_said_with_times_and_language(form, runtime, name, text, tuned, tmp_path):
    source = tuned(name)
    theirs = WhisperForConditionalGeneration.from_pretrained(source)
    processor = WhisperProcessor.from_pretrained(source)
    features = processor(SOUND, sampling_rate=16000, return_tensors="pt").input_features
    ids = theirs.generate(features, language="cs", task="transcribe", max_new_tokens=8)
    assert processor.decode(ids[0], skip_special_tokens=True).strip() == text
    command = ["--from", str(source), "--to", form, "--out", str(tmp_path / "out")]
    assert convert(command) == 0
    model = load_runtime(runtime, tmp_path / "out", threads=1)
    assert [said.text for said in model.decode([SOUND], "en")] == [text]
    assert model.detect(SOUND)[0] == "cs"
    segments = model.transcribe(SOUND, "cs", True)
    assert [(s.start, s.end, s.text) for s in segments][:1] == [(0.0, 2.0, text)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,form,message",
    [
        ("text", "ggml", r"counts its languages.*'\[UM\]'"),
        ("text", "openai", r"only has tokens of its own.*'\[UM\]'"),
        ("special", "onnx", r"list no added special tokens, as '<\|noise\|>'"),
    ],
)
def test_refused_where_there_is_no_place(name, form, message, tuned, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match=message):
        convert(["--from", str(tuned(name)), "--to", form, "--out", str(out)])
    assert not out.exists()


@pytest.mark.slow
def test_openais_decoder_refuses_it(tuned, tmp_path):
    command = ["--from", str(tuned("text")), "--to", "packed", "--out", str(tmp_path / "out")]
    assert convert(command) == 0
    with pytest.raises(InputError, match=r"no token '\[UM\]'"):
        load_runtime("torch", tmp_path / "out", threads=1)


@pytest.mark.slow
def test_english_and_a_token_more(tmp_path):
    save_hf(tmp_path / "base", weights(51864), {}, float_dtype="float32")
    source = fine_tune_english(tmp_path / "base", tmp_path / "tuned")
    for form in ("onnx", "packed", "ct2"):
        out = tmp_path / form
        assert convert(["--from", str(source), "--to", form, "--out", str(out)]) == 0
        dims = detect.load(out).dims
        assert dims.added == ("[UM]",) and any_tokenizer(dims).language is None
    assert not CTranslate2Whisper(str(tmp_path / "ct2")).is_multilingual


def fine_tune_english(base, out):
    processor = WhisperProcessor.from_pretrained(base)
    model = WhisperForConditionalGeneration.from_pretrained(base)
    processor.tokenizer.add_tokens(["[UM]"])
    model.resize_token_embeddings(len(processor.tokenizer))
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yue", "both"])
def test_what_ctranslate2s_own_converter_makes_of_it(name, tuned, tmp_path):
    """It has the tokens where transformers has them; rows that pad are times that are there."""
    TransformersConverter(str(tuned(name))).convert(str(tmp_path / "ct2"))
    (tmp_path / "ct2" / "config.json").unlink()  # alignment heads are its own guess
    found, expected = detect.load(tmp_path / "ct2"), detect.load(tuned(name))
    assert found.dims == expected.dims
    assert torch.equal(found.state[EMBEDDING], expected.state[EMBEDDING])


def change(folder, out, edit):
    """A copy of a folder with another tokenizer.json."""
    shutil.copytree(folder, out)
    content = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    edit(content)
    (out / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return out


@pytest.mark.slow
def test_tokens_in_another_order(base, tmp_path):
    """Rows go with their tokens, wherever they stand."""

    def edit(content):
        vocab = content["model"]["vocab"]
        vocab["Ġthe"], vocab["ÃŁ"] = vocab["ÃŁ"], vocab["Ġthe"]
        one, other = content["added_tokens"][300:302]
        one["id"], other["id"] = other["id"], one["id"]

    found = detect.load(change(base, tmp_path / "hf", edit))
    before, ids = weights().state[EMBEDDING], [*range(51865)]
    content = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    vocab, added = content["model"]["vocab"], content["added_tokens"]
    for a, b in ((vocab["Ġthe"], vocab["ÃŁ"]), (added[300]["id"], added[301]["id"])):
        ids[a], ids[b] = b, a
    assert found.dims == weights().dims
    assert torch.equal(found.state[EMBEDDING], before[ids])


@pytest.mark.slow
def test_a_tokenizer_without_times(base, tmp_path):
    """As those of 2022: whatever stands behind `<|notimestamps|>` is a time."""

    def edit(content):
        content["added_tokens"] = [t for t in content["added_tokens"] if t["id"] < 50364]

    found = detect.load(change(base, tmp_path / "hf", edit))
    assert found.dims == weights().dims
    assert torch.equal(found.state[EMBEDDING], weights().state[EMBEDDING])


@pytest.mark.slow
def test_a_tokenizer_in_several_files(tuned, tmp_path):
    folder = shutil.copytree(tuned("both"), tmp_path / "hf")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    added = {token["content"]: token["id"] for token in content["added_tokens"]}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    found, expected = detect.load(folder), detect.load(tuned("both"))
    assert found.dims == expected.dims and found.dims.added == ("[UM]", "<|gsw|>")
    assert torch.equal(found.state[EMBEDDING], expected.state[EMBEDDING])


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit,message",
    [
        (lambda c: c["model"]["vocab"].update({"Ġthe": 7}), "two of its tokens have the id"),
        (lambda c: c["added_tokens"][9].update(id=8), "two of its tokens have the id 8"),
        (
            lambda c: c["added_tokens"].append({"content": "[UM]", "id": 51865}),
            r"'\[UM\]' is token 51865, but n_vocab is 51865",
        ),
        (lambda c: c["added_tokens"].pop(3), "lack a special token"),
        (lambda c: c["added_tokens"][3].update(content="[UM]"), "lack a special token"),
        (lambda c: c["model"]["vocab"].pop("Ġthe"), "not fewer than a whole vocabulary has"),
        (
            lambda c: c["model"]["vocab"].update({"Ġqqqq": c["model"]["vocab"].pop("Ġthe")}),
            "not fewer than a whole vocabulary has",
        ),
    ],
)
def test_no_vocabulary_of_a_whisper(edit, message, base, tmp_path):
    folder = change(base, tmp_path / "hf", edit)
    with pytest.raises(InputError, match=message) as caught:
        detect.load(folder)
    assert "tokenizer.json: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.network
def test_published_folders(tmp_path):
    """CTranslate2's base; its tokenizer has `<|nocaptions|>` for `<|nospeech|>`, and no times."""
    folder = package_files("base")
    dims = weights().dims
    (tmp_path / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    for read, where in (
        (ctranslate2.read_vocabulary, folder),
        (hf_vocabulary.read_vocabulary, tmp_path),
    ):
        assert read(dims, where) == (dims, [*range(51865)])


def test_pairs_that_nobody_has(base, tmp_path):
    """A token of text that was not added but trained has merges, which are nowhere here."""
    folder = change(base, tmp_path / "hf", lambda c: c["model"]["vocab"].update({"Ġqqqq": 51865}))
    config = json_file.read(folder / "config.json") | {"vocab_size": 51866}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / hf.FILE)
    tensors[ROWS] = torch.cat([tensors[ROWS], tensors[ROWS][:1]])
    save_file(tensors, folder / hf.FILE)
    with pytest.raises(InputError, match="'Ġqqqq' is no token of Whisper's, nor one that was"):
        detect.load(folder)


@pytest.mark.parametrize("name", ["vocabulary.json", "vocabulary.txt"])
def test_a_list_of_ctranslate2s_decides(name, tmp_path):
    tokens = [*token_strings(any_tokenizer(51865).encoding), "[UM]"]  # as transformers has it
    text = json.dumps(tokens) if name == "vocabulary.json" else "\n".join(tokens) + "\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    found, order = ctranslate2.read_vocabulary(weights(51866).dims, tmp_path)
    assert found.added == ("[UM]",) and order[50256:50259] == [50256, 51865, 50257]
