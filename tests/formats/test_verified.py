"""`verify` sees every setting that decides the output; what only looks different it accepts."""

import json
import shutil

import pytest

from espnet_dq.formats.registry import FORMATS
from espnet_dq.formats.verify import verify
from tests.formats.written import (
    CONFIG,
    GENERATION,
    GRIDS,
    PREPROCESSOR,
    TOKENIZER,
    TOKENIZER_CONFIG,
    VOCABULARY,
    drop,
    edit_json,
    put,
    seen,
)


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", ["whole", None])
@pytest.mark.parametrize("form", GRIDS)
def test_what_we_write_is_right_and_runs(form, vocabulary, made):
    path, reference = made(form, vocabulary)
    report = verify(path, reference)
    assert report.mismatched == 0, [row for row in report.rows if row.integers + row.scales]
    runs = [row for row in report.rows if row.kind == "run"]
    assert len(runs) == bool(FORMATS[form].engine)
    # 32 positions, of which 16 are asked for behind each of the two prompts.
    shape = (2, 16, reference.dims.n_vocab)
    assert all(row.shape == shape and "at the worst of 32" in row.note for row in runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "file,edit",
    [
        put(CONFIG, "transformers_weights", "other.safetensors"),
        put(CONFIG, "activation_function", "relu"),
        put(CONFIG, "scale_embedding", True),
        put(CONFIG, "torch_dtype", "float16"),
        put(CONFIG, "dtype", "bfloat16"),
        put(CONFIG, "decoder_attention_heads", 1),
        put(CONFIG, "pad_token_id", 1),
        put(CONFIG, "auto_map", {"AutoModel": "modeling.Whisper"}),
        put(CONFIG, "attn_implementation", "flex_attention"),
        put(CONFIG, "attn_implementation", "somebody/kernel"),
        put(CONFIG, "_is_quantized", True),
        drop(CONFIG, "model_type"),
        put(CONFIG, "quantization_config", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
        put(GENERATION, "suppress_tokens", [1, 2]),
        put(GENERATION, "begin_suppress_tokens", [220]),
        put(GENERATION, "forced_decoder_ids", [[1, 50259]]),
        put(GENERATION, "no_repeat_ngram_size", 2),
        put(GENERATION, "max_length", 16),
        drop(GENERATION, "suppress_tokens"),
        edit_json(GENERATION, lambda c: c["lang_to_id"].update({"<|de|>": 50259})),
        edit_json(GENERATION, lambda c: c["alignment_heads"].pop()),
        edit_json(TOKENIZER, lambda c: c["model"]["merges"].reverse()),
        edit_json(TOKENIZER, lambda c: c["model"]["merges"].pop()),
        edit_json(TOKENIZER, lambda c: c["model"]["vocab"].update({"Ġthe": 7})),
        edit_json(TOKENIZER, lambda c: c["added_tokens"][3].update(special=False)),
        put(TOKENIZER, "normalizer", {"type": "Lowercase"}),
        put(TOKENIZER_CONFIG, "clean_up_tokenization_spaces", True),
        put(TOKENIZER_CONFIG, "padding_side", "left"),
        put(TOKENIZER_CONFIG, "eos_token", "<|nospeech|>"),
        put(TOKENIZER_CONFIG, "auto_map", {"AutoTokenizer": [None, "somebody/code--a.Tokenizer"]}),
        put(PREPROCESSOR, "hop_length", 320),
        put(PREPROCESSOR, "n_fft", 512),
        put(PREPROCESSOR, "dither", 0.5),
        put(PREPROCESSOR, "processor_class", "Wav2Vec2Processor"),
        drop(PREPROCESSOR, "chunk_length"),
    ],
)  # fmt: skip
def test_every_setting_of_hugging_face(file, edit, changed):
    assert seen(*changed("hf", file, edit))


@pytest.mark.slow
@pytest.mark.parametrize(
    "key,value",
    [
        ("processor_class", "Wav2Vec2Processor"),
        ("auto_map", {"AutoProcessor": "somebody/code--a.Processor"}),
        ("audio_tokenizer", {"audio_tokenizer_class": "DacModel",
                             "audio_tokenizer_name_or_path": "somebody/model"}),
    ],
)  # fmt: skip
def test_a_processor_of_its_own(key, value, changed, monkeypatch):
    """Nor is a model that it names looked up to be compared."""
    transformers = pytest.importorskip("transformers")
    asked = []
    monkeypatch.setattr(transformers.DacModel, "from_pretrained", lambda *_, **__: asked.append(1))

    def edit(path):
        (path / "processor_config.json").write_text(json.dumps({key: value}))

    assert seen(*changed("hf", "", edit))
    assert not asked


@pytest.mark.slow
@pytest.mark.parametrize(
    "file,edit",
    [
        put(CONFIG, "repetition_penalty", 3.0),
        put(CONFIG, "bad_words_ids", [[11]]),
        drop(CONFIG, "is_encoder_decoder"),
        drop(TOKENIZER_CONFIG, "tokenizer_class"),
        edit_json(TOKENIZER, lambda c: c["model"].update(end_of_word_suffix="e")),
        edit_json(TOKENIZER, lambda c: c["model"].update(byte_fallback=True)),
    ],
)  # fmt: skip
def test_what_transformers_js_takes_as_it_is(file, edit, changed):
    """transformers itself makes the same of all that."""
    assert seen(*changed("transformers_js", file, edit))


@pytest.mark.slow
@pytest.mark.parametrize(
    "file,edit",
    [
        put(CONFIG, "suppress_ids", [1]),
        put(CONFIG, "unk_token", "the"),
        edit_json(CONFIG, lambda c: c["lang_ids"].pop()),
        edit_json(CONFIG, lambda c: c["alignment_heads"].append([0, 0])),
        drop(CONFIG, "suppress_ids_begin"),
        edit_json(VOCABULARY, lambda c: c.__setitem__(1000, "x")),
        edit_json(VOCABULARY, lambda c: c.reverse()),
        edit_json(TOKENIZER, lambda c: c["model"]["merges"].reverse()),
        edit_json(TOKENIZER, lambda c: c["added_tokens"].pop()),
        put(PREPROCESSOR, "feature_size", 81),
        put(PREPROCESSOR, "chunk_length", 2.0),
        drop(PREPROCESSOR, "hop_length"),
    ],
)
def test_every_setting_beside_ctranslate2s_weights(file, edit, changed):
    assert seen(*changed("ct2", file, edit))


@pytest.mark.parametrize("form,file", [("hf", GENERATION), ("ct2", CONFIG)])
@pytest.mark.parametrize("first", [True, False])
def test_a_key_that_stands_twice(form, file, first, changed):
    """Readers differ in the one that they take."""

    def edit(path):
        text, key = path.read_text().strip(), next(iter(json.loads(path.read_text())))
        more = f'"{key}": 7'
        path.write_text("{" + f"{more}, {text[1:]}" if first else f"{text[:-1]}, {more}" + "}")

    assert seen(*changed(form, file, edit))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["hf", "ct2", "onnx"])
@pytest.mark.parametrize("file", ["model.safetensors.index.json", "vocab.json", "normalizer.json",
                                  "vocabulary.txt", "modeling.py", "licensed.json",
                                  "x"])  # fmt: skip
def test_a_file_more(form, file, changed):
    path, reference = changed(form, "", lambda path: (path / file).write_text('{"a": 1}\n'))
    assert seen(path, reference)


@pytest.mark.parametrize("form", ["hf", "ct2", "onnx"])
def test_a_file_less(form, made, tmp_path):
    original, reference = made(form)
    for file in original.iterdir():
        path = tmp_path / file.name
        shutil.copytree(original, path)
        (path / file.name).unlink()
        assert seen(path, reference), file.name


@pytest.mark.parametrize("form", ["hf", "ct2", "onnx"])
def test_documents_are_no_matter(form, changed):
    def edit(path):
        for name in ("README.md", "README.de.md", "model_card.md", "LICENSE", "LICENSE-MIT",
                     "LICENSE.OpenAI", "NOTICE.txt", ".gitattributes", ".DS_Store", "._config.json",
                     "Thumbs.db"):  # fmt: skip
            (path / name).write_text("for people, or of their desktops")

    assert not seen(*changed(form, "", edit))


@pytest.mark.slow
def test_saved_again_in_several_files(made, tmp_path):
    transformers = pytest.importorskip("transformers")
    path, reference = made("hf", "whole")
    shutil.copytree(path, tmp_path / "again", ignore=shutil.ignore_patterns("*.safetensors"))
    model = transformers.WhisperForConditionalGeneration.from_pretrained(path)
    model.save_pretrained(tmp_path / "again", max_shard_size="1MB")
    parts = sorted((tmp_path / "again").glob("*.safetensors"))
    report = verify(tmp_path / "again", reference)
    assert len(parts) > 1 and report.mismatched == 0, [row for row in report.rows if row.integers]
    shutil.copy(parts[0], tmp_path / "again/model-more.safetensors")
    assert seen(tmp_path / "again", reference)
    (tmp_path / "again/model-more.safetensors").unlink()
    parts[-1].unlink()
    assert seen(tmp_path / "again", reference)


@pytest.mark.slow
def test_saved_again_by_transformers(made, tmp_path):
    transformers = pytest.importorskip("transformers")
    path, reference = made("hf", "whole")
    model = transformers.WhisperForConditionalGeneration.from_pretrained(path)
    model.save_pretrained(tmp_path / "again")
    processor = transformers.WhisperProcessor.from_pretrained(path)
    processor.save_pretrained(tmp_path / "again")
    report = verify(tmp_path / "again", reference)
    assert report.mismatched == 0, [row for row in report.rows if row.integers]
    notes = {row.name: row.note for row in report.rows}
    assert "in form only, transformers reads the same" in notes["config.json"]
