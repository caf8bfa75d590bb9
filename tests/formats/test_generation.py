"""A fine-tune's own settings of decoding, in every format that has a place for them."""

import json
import shutil
from functools import cache, reduce

import pytest
import safetensors.torch
import torch
from ctranslate2.converters import TransformersConverter
from safetensors import safe_open
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.utils import logging
from whisper.model import ModelDimensions

import espnet_dq as dq
from espnet_dq.bin.convert import main as convert
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect
from espnet_dq.formats.ct2.config import config
from espnet_dq.formats.hf.write import save as save_hf
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.report import Reference
from espnet_dq.formats.verify import compare
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.generation import openais
from espnet_dq.whisper.weights import Weights

DIMS = ModelDimensions(80, 100, 32, 2, 1, 51865, 32, 32, 2, 2)
OWN = {
    "suppress_tokens": [7, 3, 50361],
    "begin_suppress_tokens": [11],
    "alignment_heads": [[1, 0], [0, 1]],
    "lang_to_id": {"<|cs|>": 50283, "<|ka|>": 50329},
    "max_initial_timestamp_index": 25,
    "max_length": 30,
    "no_repeat_ngram_size": 3,
    "forced_decoder_ids": [[1, None], [2, 50359]],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    random = torch.Generator().manual_seed(3)
    shapes = weight_shapes(DIMS).items()
    state = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes}
    folder = tmp_path_factory.mktemp("base") / "hf"
    save_hf(folder, Weights(DIMS, state), {}, float_dtype="float32")
    return folder


def change(folder, out, edit, file="generation_config.json"):
    shutil.copytree(folder, out)
    content = json.loads((out / file).read_text())
    edit(content)
    (out / file).write_text(json.dumps(content))
    return out


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """With settings of its own, saved by transformers."""
    model = WhisperForConditionalGeneration.from_pretrained(base)
    for key, value in OWN.items():
        setattr(model.generation_config, key, value)
    folder = tmp_path_factory.mktemp("tuned") / "tuned"
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(base / name, folder)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Function: (source, format) -> what `convert` makes of it, to be left as it is."""

    @cache
    def make(source, form):
        out = tmp_path_factory.mktemp(form) / form
        assert convert(["--from", str(source), "--to", form, "--out", str(out)]) == 0
        return out

    return make


@pytest.fixture(scope="module")
def theirs(tuned, tmp_path_factory):
    """What CTranslate2's own converter makes of it."""
    folder = tmp_path_factory.mktemp("theirs") / "ct2"
    TransformersConverter(str(tuned)).convert(str(folder))
    return folder


def differing(out, source):
    """What `verify` finds in a file that differs from the source, but does not run."""
    dims, state, own = (getattr(detect.load(source), k) for k in ("dims", "state", "generation"))
    rows = compare(out, Reference(dims, state, {}, {}, state, own)).rows
    return [row.name for row in rows if row.integers + row.scales]


def test_what_openais_models_do_is_nothing_of_their_own(base, tmp_path):
    assert detect.load(base).generation is None
    model = WhisperForConditionalGeneration.from_pretrained(base)
    model.save_pretrained(tmp_path / "again")
    assert detect.load(tmp_path / "again").generation is None


@pytest.mark.parametrize("way", [["hf"], ["packed", "hf"]])
def test_hugging_face_has_the_source_s(way, tuned, converted):
    out = reduce(converted, way, tuned)
    found, own = (GenerationConfig.from_pretrained(folder).to_dict() for folder in (out, tuned))
    assert found == own
    assert {key: found[key] for key in OWN} == OWN


@pytest.mark.slow
@pytest.mark.parametrize("way", [["ct2"], ["packed", "ct2"]])
def test_ctranslate2_has_what_its_own_converter_takes(way, tuned, converted, theirs):
    out = reduce(converted, way, tuned)
    ours, other = (json.loads((folder / "config.json").read_text()) for folder in (out, theirs))
    assert ours == {key: other[key] for key in ours}
    assert ours["suppress_ids"] == OWN["suppress_tokens"] and ours["lang_ids"] == [50283, 50329]
    back = detect.load(out).generation
    assert back.suppress_tokens == (7, 3, 50361) and back.alignment_heads == ((1, 0), (0, 1))
    assert detect.load(theirs).generation == back


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hf", "ct2", "packed"])
def test_verify_compares_with_the_source_s(form, tuned, base, converted):
    out = converted(tuned, form)
    assert differing(out, tuned) == []
    if form == "packed":
        with pytest.raises(WorkError, match="metadata key generation is unknown"):
            differing(out, base)
    else:
        file = {"hf": "generation_config.json", "ct2": "config.json"}[form]
        assert differing(out, base) == [file]


@pytest.mark.slow
def test_each_number_in_a_packed_file_counts(tuned, converted, tmp_path):
    changed = change(tuned, tmp_path / "hf", lambda c: c.update(suppress_tokens=[7, 3, 50360]))
    assert differing(converted(tuned, "packed"), tuned) == []
    assert differing(converted(changed, "packed"), tuned) == ["generation"]


@pytest.mark.slow
@pytest.mark.parametrize("none", [None, []])
def test_nothing_is_suppressed(none, base, tmp_path):
    """As many are trained: `generation_config.suppress_tokens = []`."""
    model = WhisperForConditionalGeneration.from_pretrained(base)
    model.generation_config.suppress_tokens = none
    model.save_pretrained(tmp_path / "tuned")
    shutil.copy(base / "tokenizer.json", tmp_path / "tuned")
    for form in ("ct2", "hf"):
        command = ["--from", str(tmp_path / "tuned"), "--to", form, "--out", str(tmp_path / form)]
        assert convert(command) == 0
    assert json.loads((tmp_path / "ct2/config.json").read_text())["suppress_ids"] == []
    found = WhisperForConditionalGeneration.from_pretrained(tmp_path / "hf")
    features = torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(0))
    ids = [each.generate(features, language="cs", max_new_tokens=8) for each in (model, found)]
    assert torch.equal(*ids)


@pytest.mark.slow
def test_an_old_folder_has_them_in_config_json(base, tmp_path):
    def edit(content):
        content.update(suppress_tokens=[5], begin_suppress_tokens=[6], max_length=20)

    folder = change(base, tmp_path / "hf", edit, "config.json")
    assert detect.load(folder).generation is None  # the other file is there
    (folder / "generation_config.json").unlink()
    found = detect.load(folder).generation
    assert (found.suppress_tokens, found.begin_suppress_tokens) == ((5,), (6,))
    assert found.languages == openais(DIMS).languages and found.others["max_length"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("form", ["openai", "ggml", "onnx"])
def test_said_where_there_is_no_place(form, tuned, base, tmp_path, capsys):
    for source, expected in ((base, False), (tuned, True))[form != "openai" :]:
        out = tmp_path / source.name
        assert convert(["--from", str(source), "--to", form, "--out", str(out)]) == 0
        assert ("no place for the source's own" in capsys.readouterr().err) == expected
        assert detect.load(out).generation is None


@pytest.mark.slow
def test_ctranslate2_has_four_lists_and_no_more(tuned, base, tmp_path, capsys):
    for source in (base, tuned):
        out = tmp_path / source.name
        assert convert(["--from", str(source), "--to", "ct2", "--out", str(out)]) == 0
        said = capsys.readouterr().err
        names = ("forced_decoder_ids", "max_initial_timestamp_index", "no_repeat_ngram_size")
        assert all((name in said) == (source is tuned) for name in names)
    with pytest.warns(UserWarning, match="no place for the source's .*max_length"):
        dq.save(dq.load(tuned), tmp_path / "again", to="ct2")


@pytest.mark.parametrize(
    "others,message",
    [
        ({"eos_token_id": 5}, "eos_token_id is not one of the others"),
        ({"suppress_tokens": [7]}, "suppress_tokens is not one of the others"),
        ({"is_multilingual": True}, "is_multilingual is not one of the others"),
        ({"forced_decoder_ids": [[1, 99999]]}, "forced_decoder_ids is not pairs"),
    ],
)
def test_others_of_a_packed_file_are_others(others, message, tuned, converted, tmp_path):
    with safe_open(converted(tuned, "packed"), "pt") as f:
        metadata, tensors = f.metadata(), {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118
    table = json.loads(metadata["generation"])
    table["others"] |= others
    metadata["generation"] = json.dumps(table)
    safetensors.torch.save_file(tensors, tmp_path / "y", metadata)
    with pytest.raises(InputError, match=message):
        detect.load(tmp_path / "y")


@pytest.mark.slow
def test_a_model_in_training_is_verified_with_its_own(tuned, base, tmp_path):
    nets = [WhisperForConditionalGeneration.from_pretrained(x, dtype=torch.float32)
            for x in (tuned, base)]  # fmt: skip
    path = dq.save(nets[0], tmp_path / "x.safetensors")
    logging.set_verbosity_info()
    logging.enable_progress_bar()  # which the runtime of another test may have disabled
    random = torch.random.get_rng_state()
    dq.verify(dq.save(nets[0], tmp_path / "hf", to="hf"), against=nets[0]).check()
    # A training may go on behind it.
    assert torch.equal(torch.random.get_rng_state(), random)
    assert logging.get_verbosity() == logging.INFO and logging.is_progress_bar_enabled()
    dq.verify(path, against=nets[0]).check()
    with pytest.raises(WorkError):
        dq.verify(path, against=nets[1]).check()


@pytest.mark.parametrize(
    "key,value,message",
    [
        ("suppress_tokens", [51865], "is not a list of ids below 51865"),
        ("suppress_tokens", [-1], "is not a list of ids below 51865"),
        ("suppress_tokens", [True], "is not a list of ids below 51865"),
        ("suppress_tokens", "all", "is not a list of ids below 51865"),
        ("begin_suppress_tokens", [[1]], "is not a list of ids below 51865"),
        ("alignment_heads", [[-1, 0]], "is not pairs of a layer and a head"),
        ("alignment_heads", [[0]], "is not pairs of a layer and a head"),
        ("alignment_heads", 3, "is not pairs of a layer and a head"),
        ("no_timestamps_token_id", 50364, "is not that of this vocabulary"),
        ("decoder_start_token_id", 50257, "is not that of this vocabulary"),
        ("eos_token_id", [50257, 1], "is not that of this vocabulary"),
        ("task_to_id", {"transcribe": 50358}, "is not that of this vocabulary"),
        ("lang_to_id", {"<|en|>": 50260}, "has another id of '<|en|>'"),
        ("lang_to_id", {"<|en|>": [50259]}, "has another id of '<|en|>'"),
        ("lang_to_id", [50259], "no table"),
        ("forced_decoder_ids", [[1, 51865]], "is not pairs of position and id"),
        ("forced_decoder_ids", [[1, [2]]], "is not pairs of position and id"),
    ],
)
def test_values_that_are_none(key, value, message, base, tmp_path):
    folder = change(base, tmp_path / "hf", lambda content: content.update({key: value}))
    with pytest.raises(InputError) as caught:
        detect.load(folder)
    assert message in str(caught.value) and key in str(caught.value)
    assert "generation_config.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["hf", "ct2"])
def test_heads_of_a_teacher_that_had_more_layers(form, base, converted, tmp_path, capsys):
    """As distilled models are published; CTranslate2 would end in a segmentation fault."""
    name = {"hf": "generation_config.json", "ct2": "config.json"}[form]
    folder = shutil.copytree(converted(base, form), tmp_path / form)
    content = json.loads((folder / name).read_text())
    for given, kept in (([[1, 1], [2, 0], [25, 6]], ((1, 1),)), ([[9, 0]], None)):
        (folder / name).write_text(json.dumps(content | {"alignment_heads": given}))
        own = detect.load(folder).generation
        usual = openais(detect.load(folder).dims).alignment_heads
        assert (own.alignment_heads if own else usual) == (kept or usual)
        left = len(given) - len(kept or ())
        said = f"{name}: alignment_heads: left out are {left} of {len(given)}, of layers or heads"
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("value", [[51865], "x", [True]])
def test_values_that_are_none_in_ctranslate2s(value, base, converted, tmp_path):
    out = shutil.copytree(converted(base, "ct2"), tmp_path / "ct2")
    content = json.loads((out / "config.json").read_text()) | {"suppress_ids": value}
    (out / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"config\.json: suppress_ids is not a list of ids below"):
        detect.load(out)


def test_from_openais_file_they_are_openais(base, tmp_path):
    weights = detect.load(base)
    save_pt(tmp_path / "toy.pt", weights)
    assert (
        convert(["--from", str(tmp_path / "toy.pt"), "--to", "ct2", "--out", str(tmp_path / "ct2")])
        == 0
    )
    assert json.loads((tmp_path / "ct2/config.json").read_text()) == config(DIMS, None, False)
