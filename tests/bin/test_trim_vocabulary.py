"""The command, and its model in every format that is written here."""

import json
import os
import shutil

import pytest
import torch
import whisper

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.init_student import main as init_student
from espnet_dq.bin.trim_vocabulary import main
from espnet_dq.bin.verify import main as verify
from espnet_dq.data.kaldi import write_scp
from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import detect
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.student.trim import always, encode_word
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.vocabulary import closure, own_vocabulary
from espnet_dq.whisper.weights import EMBEDDING, Weights

TEXTS = {"a": ("en", "hello there"), "b": ("es", "adiós, amigo"), "c": ("ru", "привет")}
GRIDS = {"ct2": "ct2_int8", "onnx": "onnx_int8", "packed": "uniform4", "hf": "none"}


@pytest.fixture(scope="module")
def toy(save_toy):
    return save_toy(state=32, layers=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_scp(folder / "utt2lang", {utt: language for utt, (language, _) in TEXTS.items()})
    write_scp(folder / "text", {utt: text for utt, (language, text) in TEXTS.items()})
    return folder


@pytest.fixture(scope="module")
def trimmed(toy, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trimmed") / "student.pt"
    options = ["--data", str(data), "--keep_languages", "en,es", "--out", str(out)]
    assert main(["--from", str(toy), *options]) == 0
    return out


@pytest.fixture(scope="module")
def exported(trimmed, tmp_path_factory):
    """Format -> the trimmed model in it, on one of its grids."""
    folder = tmp_path_factory.mktemp("exported")
    for form, grid in GRIDS.items():
        options = ["--to", form, "--grid", grid, "--out", str(folder / form)]
        assert convert(["--from", str(trimmed), *options]) == 0
    return {form: folder / form for form in GRIDS}


def test_what_is_kept(toy, trimmed):
    before, after = openai.load(toy), openai.load(trimmed)
    whole, ours = vocabulary_tokenizer(before.dims), vocabulary_tokenizer(after.dims)
    kept = after.dims.kept
    for utt, (language, text) in TEXTS.items():
        needed = {*encode_text(whole, text, language)} <= {*kept}
        assert needed == (utt != "c")
        assert ours.decode(encode_text(ours, text, language)) == " " * needed + text
    for sign in (" 2", "7", ".", " ?", "¿", " -", "…", "♪", "♪♪"):
        assert {*whole.encode(sign)} <= {*kept}, sign
    for name, tensor in before.state.items():
        expected = tensor[list(kept)] if name == EMBEDDING else tensor
        assert torch.equal(after.state[name], expected), name
    # What stock openai-whisper reads, and no code in it.
    saved = torch.load(trimmed, weights_only=True)
    assert saved["kept_tokens"].tolist() == [*kept]
    assert whisper.load_model(str(trimmed), device="cpu").dims.n_vocab == len(kept) < 4000


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("我 喜欢 看 书 今天 天气", "今天天气"),
        ("今日 天気", "今日天気"),
        ("guten morgen\nwie", "„Guten Morgen“, Wie"),
        ("hello", "Hello-hello"),
        ("HELLO iPhone", "Hello, IPhone Iphone HELLO"),
    ],
)
def test_words_of_a_list_are_kept_as_they_stand_in_texts(words, text):
    whole = vocabulary_tokenizer(51865)
    kept = always(whole).union(*(encode_word(whole, word) for word in words.split()))
    for language in ("zh", "de"):
        assert {*encode_text(whole, text, language)} <= closure(whole, kept)


def test_a_list_that_does_not_fit_is_refused(trimmed, tmp_path):
    saved = torch.load(trimmed, weights_only=True)
    kept = saved["kept_tokens"]
    for wrong, message in (
        (kept[1:], "kept_tokens is not int32"),
        (kept.float(), "kept_tokens is not int32"),
        (kept.flip(0), "not ids in rising order"),
        ([*range(len(kept))], "kept_tokens is not a tensor"),
    ):
        torch.save(saved | {"kept_tokens": wrong}, tmp_path / "wrong.pt")
        with pytest.raises(InputError, match=rf"wrong\.pt: .*{message}"):
            openai.load(tmp_path / "wrong.pt")
    del saved["kept_tokens"]
    torch.save(saved, tmp_path / "wrong.pt")
    options = ["--from", str(tmp_path / "wrong.pt"), "--to", "hf", "--out", str(tmp_path / "hf")]
    with pytest.raises(InputError, match=f"{len(kept)} tokens, and nothing says which"):
        convert(options)


@pytest.mark.slow
@pytest.mark.parametrize("form", GRIDS)
def test_every_format_keeps_it(form, exported, trimmed, tmp_path):
    expected = openai.load(trimmed).dims
    assert detect.load(exported[form]).dims == expected
    assert verify([str(exported[form]), "--against", str(trimmed), "--grid", GRIDS[form]]) == 0
    back = tmp_path / "back.pt"
    assert convert(["--from", str(exported[form]), "--to", "openai", "--out", str(back)]) == 0
    assert openai.load(back).dims == expected


@pytest.fixture(scope="module")
def other(trimmed, tmp_path_factory):
    """The same weights, but one of the last tokens of text is said to be another one."""
    weights = openai.load(trimmed)
    whole, kept = vocabulary_tokenizer(51865), list(weights.dims.kept)
    words = [i for i in kept if i < whole.eot]
    one, another = next(
        (one, new)
        for before, one, behind in reversed([*zip(words, words[1:], words[2:], strict=False)])
        if one not in closure(whole, {*words} - {one})  # no other needs it
        for new in {*range(before + 1, behind)} - {one}
        if closure(whole, [new]) <= {*words} - {one} | {new}
    )
    dims = own_vocabulary(weights.dims, sorted({*kept} - {one} | {another}), "other")
    path = tmp_path_factory.mktemp("other") / "other.pt"
    save_pt(path, Weights(dims, weights.state), torch.float32)
    return path


@pytest.mark.parametrize("form", GRIDS)
def test_verify_sees_another_vocabulary(form, exported, other):
    command = [str(exported[form]), "--against", str(other), "--grid", GRIDS[form]]
    if form == "ct2":  # whose variables are all right
        with pytest.raises(WorkError, match=r"holds .* tokens \w{8}, expected .* tokens \w{8}"):
            verify(command)
    else:
        assert verify(command) == 1


def test_damaged_lists_are_named(exported, tmp_path):
    for form, file in (
        ("ct2", "vocabulary.json"),
        ("hf", "tokenizer.json"),
        ("onnx", "tokens.txt"),
    ):
        folder = tmp_path / form
        shutil.copytree(exported[form], folder)
        text = (folder / file).read_text(encoding="utf-8")
        for damaged in (text[: len(text) // 2], "[1, 2]", "null"):
            (folder / file).write_text(damaged, encoding="utf-8")
            with pytest.raises(InputError, match=f"{folder / file}: "):
                detect.load(folder)
    tokens = json.loads((exported["ct2"] / "vocabulary.json").read_text(encoding="utf-8"))
    # In another order they are what CTranslate2 would say, so rows go with them.
    (tmp_path / "ct2/vocabulary.json").write_text(json.dumps([tokens[1], tokens[0], *tokens[2:]]))
    before, found = detect.load(exported["ct2"]), detect.load(tmp_path / "ct2")
    assert found.dims == before.dims
    assert torch.equal(found.state[EMBEDDING][:2], before.state[EMBEDDING][:2].flip(0))
    assert torch.equal(found.state[EMBEDDING][2:], before.state[EMBEDDING][2:])


def test_languages_have_any_name_in_the_data_too(toy, data, trimmed, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    write_scp(tmp_path / "data/utt2lang", {"a": "English", "b": "spa", "c": "ru-RU"})
    options = ["--data", str(tmp_path / "data"), "--keep_languages", "en-GB,es"]
    assert main(["--from", str(toy), *options, "--out", str(tmp_path / "out.pt")]) == 0
    assert openai.load(tmp_path / "out.pt").dims == openai.load(trimmed).dims


def test_whisper_cpp_is_refused(trimmed, tmp_path):
    message = "whisper.cpp only runs whole vocabularies"
    for grid in ("none", "ggml_q5_0"):
        options = ["--to", "ggml", "--grid", grid, "--out", str(tmp_path / "toy.bin")]
        with pytest.raises(InputError, match=message):
            convert(["--from", str(trimmed), *options])
    (tmp_path / "qat.yaml").write_text("model_conf: {preset: full}\n")
    options = ["--grid", "ggml_q8_0", "--export", "ggml", str(tmp_path / "qat.yaml")]
    options += ["--from", str(trimmed), "--teacher", str(trimmed), "--out", str(tmp_path / "init")]
    with pytest.raises(InputError, match=message):
        init_student(options)


@pytest.mark.slow
def test_mistakes_are_named(toy, trimmed, data, save_toy, tmp_path):
    english = save_toy(state=16, layers=1, n_vocab=51864)

    def refused(message, *options, source=toy):
        with pytest.raises(InputError, match=message):
            main(["--from", str(source), *map(str, options), "--out", str(tmp_path / "out.pt")])
        assert not (tmp_path / "out.pt").exists()

    refused("give --data, --words, or both")
    refused("unknown language 'xx'", "--data", data, "--keep_languages", "en,xx")
    refused("--data has no text in 'fr'", "--data", data, "--keep_languages", "en,fr")
    refused(f"{tmp_path / 'none'}: no such file", "--words", tmp_path / "none")
    (tmp_path / "latin1").write_bytes("adiós".encode("latin1"))
    refused(f"{tmp_path / 'latin1'}: not UTF-8", "--words", tmp_path / "latin1")
    os.mkfifo(tmp_path / "pipe")
    refused(f"{tmp_path / 'pipe'}: not a regular file", "--words", tmp_path / "pipe")
    (tmp_path / "empty").write_text("\n \n")
    refused(f"{tmp_path / 'empty'}: no words", "--words", tmp_path / "empty")
    (tmp_path / "words").write_text("one\nof <|en|> it\n")
    refused(rf"{tmp_path / 'words'}:2: a text with <\|en\|>", "--words", tmp_path / "words")
    refused(f"{trimmed}: its vocabulary is not a whole one", "--data", data, source=trimmed)
    refused(f"{english}: no multilingual", "--data", data, source=english)
    write_scp(tmp_path / "text", {"a": "<|en|>"})
    write_scp(tmp_path / "utt2lang", {"a": "en"})
    refused(rf"{tmp_path / 'text'}: 'a': a text with <\|en\|>", "--data", tmp_path)
    write_scp(tmp_path / "text", {"a": "one"})
    write_scp(tmp_path / "utt2lang", {"b": "en"})
    refused("utt2lang: no line for 'a' of text", "--data", tmp_path)
