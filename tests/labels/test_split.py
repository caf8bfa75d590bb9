"""Long utterances built from real clips: each piece has its clips' text, or none."""

from itertools import chain

import numpy as np
import pytest

from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.pieces import pieces
from espnet_dq.errors import InputError
from espnet_dq.labels import split
from espnet_dq.labels.split import Splitter, split_words
from espnet_dq.whisper.dims import vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text

NAMES = ("vm-options", "dictate/play_help", "vm-msginstruct")  # 16, 10 and 15 s


@pytest.fixture(scope="module")
def long(real_clip):
    """Pieces of three clips with pauses of 1 s, and the texts before and behind the cut."""
    audio, texts = [], []
    for name in NAMES:
        path, _, text = real_clip("en", name)
        audio += [load_audio(path), np.zeros(SAMPLE_RATE, np.float32)]
        texts.append(" ".join(text.split()))
    cut = [piece for _, piece in pieces([np.concatenate(audio)], 30)]
    first = len(cut[0]) - sum(map(len, audio[:3]))
    assert len(cut) == 2 and 0 < first < SAMPLE_RATE  # the cut is in the second pause
    return cut, [" ".join(texts[:2]), texts[2]]


@pytest.fixture(scope="module")
def splitter(weights_dir):
    return Splitter(weights_dir / "tiny.pt", 30.0, 1)


@pytest.mark.slow
def test_text_is_cut_where_the_audio_is(splitter, long):
    audio, texts = long
    assert splitter.assign(audio, " ".join(texts), "en") == (texts, ["", ""])


def test_without_a_text_only_the_cuts_count(splitter, long):
    (first, last), _ = long
    assert splitter.assign([first, last], "", "en") == (["", ""], ["", ""])
    loud = next(s for s in range(2, 20) if not split._pause(first[: s * 16000], first[s * 16000 :]))
    parts = [first[: loud * 16000], first[loud * 16000 :], last]
    assert splitter.assign(parts, "", "en") == ([""] * 3, [split.NO_PAUSE, split.NO_PAUSE, ""])


@pytest.mark.slow
@pytest.mark.parametrize("change", ["another text", "words missing"])
def test_no_text_is_better_than_a_wrong_one(change, splitter, long):
    audio, texts = long
    first, last = (text.split() for text in texts)
    if change == "another text":  # behind the first piece
        words = [*first, "quick", "brown", "foxes", "jump", "over", "lazy", "dogs", "at", "night"]
    else:  # of the first piece, most of them
        words = first[:12] + last
    texts, faults = splitter.assign(audio, " ".join(words), "en")
    assert " ".join(texts) == " ".join(words)
    uncertain, unlike = "piece whose text is uncertain", "piece whose text is unlike what is heard"
    print(faults)
    assert faults[change == "another text"] in (uncertain, unlike)


def test_a_cut_in_speech_is_no_pause(long):
    (audio, *_), _ = long
    assert split._pause(*long[0])
    loudest = max(range(2, 20), key=lambda s: audio[s * SAMPLE_RATE :][: SAMPLE_RATE // 3].var())
    at = loudest * SAMPLE_RATE + SAMPLE_RATE // 6
    assert not split._pause(audio[:at], audio[at:])


def test_written_once(splitter, long, tmp_path, monkeypatch):
    audio, texts = long
    source, folder = tmp_path / "x.wav", tmp_path / "out"
    save_wav(source, np.concatenate(audio))
    calls = []

    def assign(audio, text, language):
        calls.append(text)
        return texts, ["", "nothing said"]

    monkeypatch.setattr(splitter, "assign", assign)
    for text in ("a b", "a b", "a c"):
        good, left_out = splitter.split("u/1", source, text, "en", folder)
        assert left_out == {"nothing said": 1}
        ((path, samples, said),) = good
        assert said == texts[0] and samples == len(load_audio(path)) == len(audio[0])
    assert calls == ["a b", "a c"]
    assert sorted(p.name for p in folder.iterdir()) == ["u%2F1-0000.wav", "u%2F1.json"]
    folder = folder.rename(tmp_path / "moved")  # with what is in it
    ((path, *_),), _ = splitter.split("u/1", source, "a c", "en", folder)
    assert path == str(folder / "u%2F1-0000.wav") and len(calls) == 2
    (folder / "u%2F1-0000.wav").unlink()
    splitter.split("u/1", source, "a c", "en", folder)
    assert len(calls) == 3 and (folder / "u%2F1-0000.wav").exists()
    with pytest.raises(InputError, match="'u/1': the model knows no language 'tlh'"):
        splitter.split("u/1", source, "a", "tlh", folder)


@pytest.mark.parametrize(
    ("text", "language", "units"),
    [
        ("One,  two - three!", "en", ["One, ", "two - ", "three!"]),
        ("... so", "en", ["... so"]),
        ("你好。OK 吗", "zh", ["你", "好。", "OK ", "吗"]),
        ("-", "en", ["-"]),
        ("ที่นี่ OK น้ำ!", "th", ["ที่", "นี่ ", "OK ", "น้ำ!"]),
        ("मैं हूँ ।", "hi", ["मैं ", "हूँ ।"]),
    ],
)
def test_units_are_the_text(text, language, units):
    assert split_words(text, language) == units
    assert "".join(units) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "language"), [("今天天气很好。OK 吗", "zh"), ("Բարև ձեզ", "hy"), ("One, two!", "en")]
)
def test_tokens_of_units_begin_as_texts_do(text, language):
    tokenizer = vocabulary_tokenizer(51865)
    ids = split._encode_units(tokenizer, split_words(text, language), language)
    whole = encode_text(tokenizer, text, language)
    assert tokenizer.decode([*chain(*ids)]) == tokenizer.decode(whole)
    assert split._encode_units(tokenizer, [], language) == []


def test_places_are_between_words_heard_rightly():
    units = split_words("one two three four five six", "en")
    places = split._places(units, [["one", "to", "three"], ["for", "five", "six"]], "en")
    assert places == [(3, 4)]
    assert split._places(units, [["x"], ["y"]], "en") == [(0, 6)]
    assert split._places(units, [[], []], "en") == [(0, 6)]


def test_a_trimmed_aligner_spells_words_that_it_lacks(save_toy, trim):
    path = trim(save_toy(), ["one two"])
    splitter, text = Splitter(path, 30.0, 1), "One, Łukasiewicz!"
    ids = [*chain(*splitter._encoded(split_words(text, "en"), "en"))]
    assert {*ids} <= {*splitter.vocabulary.kept}
    assert vocabulary_tokenizer(51865).decode(ids) == f" {text}"
