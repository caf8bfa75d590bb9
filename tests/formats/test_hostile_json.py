"""What Hugging Face's and CTranslate2's JSON files can say instead of what they should."""

import json

import pytest

from espnet_dq.errors import InputError
from espnet_dq.formats import detect, json_file
from espnet_dq.formats.write import write

VALUES = {
    "not a number": "NaN",
    "infinite": "-Infinity",
    "beyond a float": "1e999",
    "bool": "true",
    "a word": '"6"',
    "with a point": "2.0",
    "in tens": "1e3",
    "negative": "-2",
    "zero": "0",
    "huge": "9" * 4000,
    "too long a number": "9" * 5000,
    "nothing": "null",
    "a list": "[2]",
    "a table": '{"a": 1}',
    "deep nesting": "[" * 100_000 + "]" * 100_000,
    "a lone surrogate": '"\\ud800"',
}


@pytest.fixture(scope="session")
def hf(toy_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "hf"
    write("hf", folder, toy_weights(), {}, "float16")
    return folder


def copy(source, target, name, text):
    target.mkdir()
    for other in source.iterdir():
        if other.name != name:
            (target / other.name).symlink_to(other)
    (target / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return target


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize(
    "key", ["decoder_attention_heads", "d_model", "vocab_size", "model_type", "scale_embedding"]
)
def test_values_of_other_kinds(hf, tmp_path, key, kind):
    config = json.loads((hf / "config.json").read_text())
    text = json.dumps(config | {key: "@"}).replace('"@"', VALUES[kind])
    if (key, kind) == ("scale_embedding", "zero"):
        return  # transformers takes it as we do
    folder = copy(hf, tmp_path / "hf", "config.json", text)
    with pytest.raises(InputError, match=r"config\.json: ") as caught:
        detect.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[]", "not a table"),
        ("3", "not a table"),
        ("null", "not a table"),
        (b"\xff\xfe{}", "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        ('{"a": 1}\0', "not JSON"),
        ('{"vocab_size": 1, "vocab_size": 2}', "vocab_size is there twice"),
        (" " * (17 << 20), "larger than"),
    ],
)
def test_files_that_are_no_table(hf, tmp_path, text, said):
    folder = copy(hf, tmp_path / "hf", "config.json", text)
    with pytest.raises(InputError, match=rf"config\.json: .*{said}"):
        detect.load(folder)


@pytest.mark.parametrize(
    "index",
    [
        {"weight_map": {"a": "model.safetensors.index.json"}},
        {"weight_map": {"a": "../model.safetensors"}},
        {"weight_map": {"a": "/dev/zero"}},
        {"weight_map": {"a": 3}},
        {"weight_map": {"a": ["x.safetensors"]}},
        {"weight_map": {"a": "x\n.safetensors"}},
        {"weight_map": {"a": "gone.safetensors"}},
        {"weight_map": ["a"]},
        {"weight_map": {}},
        {},
    ],
)
def test_an_index_that_leads_elsewhere(hf, tmp_path, index):
    folder = copy(hf, tmp_path / "hf", "model.safetensors.index.json", json.dumps(index))
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=str(folder)) as caught:
        detect.load(folder)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "tokenizer",
    [
        "[]",
        "{}",
        '{"model": 3}',
        '{"model": {"vocab": []}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [3]}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": [], "id": 1}]}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": [{"content": 5, "id": 1}]}',
        '{"model": {"vocab": {"a": true}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 0.0}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": "0"}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 0, "b": null}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": []}',
        '{"model": {"vocab": {"a": 0}}, "added_tokens": {"content": 1}}',
        '{"model": {"vocab": {"' + "a" * 10_000 + '": 0}}, "added_tokens": []}',
    ],
)
def test_a_tokenizer_of_another_kind(hf, tmp_path, tokenizer):
    config = json.loads((hf / "config.json").read_text()) | {"vocab_size": 40}
    folder = copy(hf, tmp_path / "hf", "config.json", json.dumps(config))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text(tokenizer)
    with pytest.raises(InputError, match=r"tokenizer\.json: ") as caught:
        detect.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["{}", '["a", 3]', "[null]", '"a"', '["' + "a" * 5000 + '"]', "["])
def test_a_vocabulary_of_another_kind(tmp_path, text):
    from espnet_dq.formats.ct2 import read as ctranslate2

    (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(InputError, match=r"vocabulary\.json: not "):
        ctranslate2._read_tokens(tmp_path / "vocabulary.json")


def test_json_is_what_it_says():
    assert json_file.parse('{"a": [1, 2.5, "x", null, {"a": true}]}', "x") == {
        "a": [1, 2.5, "x", None, {"a": True}]
    }
