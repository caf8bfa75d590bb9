"""Windows hold every utterance once, and audio and text stay together."""

import json
import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq.bin.pack_windows import main as pack_windows
from espnet_dq.data.audio import load_audio, save_wav
from espnet_dq.data.kaldi import AUDIO, KaldiDir
from espnet_dq.data.pack import PAUSE, Balance, joined_text, pack, plan_windows
from espnet_dq.data.texts import glue, join
from espnet_dq.data.validation import validate
from espnet_dq.errors import InputError
from espnet_dq.files import alone, sha256
from espnet_dq.whisper.dims import SIZES, vocabulary_tokenizer
from espnet_dq.whisper.encoding import encode_text
from espnet_dq.whisper.room import most_text


def tables(lengths):
    data = KaldiDir()
    for i in range(len(lengths)):
        utt = f"u{i:03d}"
        data.add(utt, f"{utt}.wav", f"text number {i}", utt, ("en", "ru", "fr")[i % 3])
    return data, {f"u{i:03d}": s for i, s in enumerate(lengths)}


@given(
    st.lists(st.floats(0.1, 29.0), min_size=1, max_size=40),
    st.integers(0, 5),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_every_utterance_once_and_within_the_window(lengths, singles, seed):
    data, seconds = tables(lengths)
    windows = plan_windows(data, seconds, 29.5, singles, seed)
    alone = min(singles, len(lengths))
    packed = windows[: len(windows) - alone]
    assert sorted(u for w in packed for u in w) == sorted(data.wav)
    assert all(len(w) == 1 for w in windows[len(packed) :])
    for window in packed:
        assert len({data.utt2lang[u] for u in window}) == 1
        assert len(window) == 1 or sum(seconds[u] + PAUSE[1] for u in window) <= 29.5
    assert windows == plan_windows(data, seconds, 29.5, singles, seed)


def test_as_many_windows_as_are_asked_for():
    data, seconds = tables([29.0] * 500)  # more windows than a decoder has positions
    windows = plan_windows(data, seconds, 29.5, singles=3, seed=0)
    assert len(windows) == 503
    few = plan_windows(data, seconds, 29.5, singles=3, seed=0, most=7)
    places = [windows.index(w) for w in few]
    assert len(few) == 7 and places == sorted(places)


def test_nothing_that_fits():
    data, seconds = tables([40.0] * 3)
    assert plan_windows(data, seconds, 29.5, singles=3, seed=0) == []


def test_no_window_has_two_speakers():
    data, seconds = tables([2.0] * 60)
    for number, utt in enumerate(data.wav):
        if number % 5:  # else nobody knows who speaks
            data.utt2spk[utt] = f"speaker{number % 5}"
    windows = plan_windows(data, seconds, 29.5, singles=0, seed=0, by_speaker=True)
    assert sorted(u for w in windows for u in w) == sorted(data.wav)
    assert all(len({data.speaker(u) for u in w}) == 1 for w in windows)
    assert len(windows) == 3 * 5  # no language has 30 s of a speaker: one window each
    assert sum(data.speaker(w[0]) == "" for w in windows) == 3


def test_spaces_between_texts_are_counted():
    """In Telugu they are tokens, which no text begins with."""
    data, seconds = tables([0.2] * 30)
    for utt in data.text:
        data.text[utt], data.utt2lang[utt] = "పాట", "te"
    dims = replace(SIZES["tiny"], n_text_ctx=60)
    windows, tokenizer = plan_windows(data, seconds, 29.5, 0, 0, dims), vocabulary_tokenizer(dims)
    assert sorted(u for w in windows for u in w) == sorted(data.wav)
    lengths = [len(encode_text(tokenizer, joined_text(data, w), "te")) for w in windows]
    assert max(lengths) <= most_text(60) < max(lengths) + lengths[-1]


# Of a Whisper; of a smaller student.
@pytest.mark.parametrize("positions", [448, 200])
@pytest.mark.parametrize(("language", "word"), [("ru", "слово"), ("te", "పాట"), ("zh", "词语")])
def test_text_fits_the_decoder(language, word, positions):
    """With its prompt, timestamps and end, as openai-whisper would put them together."""
    data, seconds = tables([0.2] * 30)
    for utt in data.text:
        data.text[utt], data.utt2lang[utt] = f"{word} " * 20, language
    dims = replace(SIZES["tiny"], n_text_ctx=positions)
    tokenizer = vocabulary_tokenizer(dims)
    data.text["u007"] = f"{word} " * 500  # fits no window: left out
    windows = plan_windows(data, seconds, 29.5, 0, 0, dims)
    assert sorted(u for w in windows for u in w) == sorted(set(data.wav) - {"u007"})
    lengths = []
    for window in windows:
        text = encode_text(tokenizer, joined_text(data, window), language)
        around = [tokenizer.timestamp_begin, tokenizer.timestamp_begin + 1, tokenizer.eot]
        lengths.append(len([*tokenizer.sot_sequence_including_notimestamps, *text, *around]))
    more = len(encode_text(tokenizer, data.text["u000"], language)) + 1  # the space between
    assert positions - more < max(lengths) <= positions


def test_too_much_text_for_a_students_decoder_is_counted(save_toy, tmp_path):
    """As it is for a Whisper's: by its own number of positions."""
    model = torch.load(save_toy(), weights_only=True)
    model["dims"]["n_text_ctx"] = 40
    state = model["model_state_dict"]
    state["decoder.positional_embedding"] = state["decoder.positional_embedding"][:40]
    torch.save(model, tmp_path / "student.pt")
    data = KaldiDir()
    for name, count in (("short", 10), ("long", 60), ("longer", 500)):
        data.add(name, tmp_path / "x.wav", "слово " * count, name, "ru", utt2num_samples=16000)
    save_wav(tmp_path / "x.wav", np.full(16000, 0.1, np.float32))
    data.save(tmp_path / "raw")
    given = ["--data", str(tmp_path / "raw"), "--out", str(tmp_path / "packed")]
    for more, room, left_out in (
        ([], 441, ["longer"]),
        (["--student", str(tmp_path / "student.pt")], 33, ["long", "longer"]),
    ):
        pack_windows([*given, *more])
        rows = (tmp_path / "packed.left_out.tsv").read_text().splitlines()
        assert [utt for utt in data.wav if any(f"\t{utt}: " in row for row in rows)] == left_out
        assert all(f"more than the decoder's {room} tokens" in r for r in rows if "слово" in r)
        limit = rf"more than --max_left_out 10 %: {len(left_out)} of 3 utterances"
        with pytest.raises(InputError, match=limit):
            pack_windows([*given, *more, "--max_left_out", "10"])
    # As of scripts of many tokens a letter: nothing may be left of what is long.
    data.select(left_out).save(tmp_path / "raw")
    with pytest.raises(InputError, match="raw: 2 of 2 utterances fit into no window: 2 text of "):
        pack_windows([*given, *more])
    (tmp_path / "packed.left_out.tsv").unlink()
    data.select([]).save(tmp_path / "raw")
    with pytest.raises(InputError, match=r"raw: no utterances$"):
        pack_windows([*given, *more])
    assert not (tmp_path / "packed.left_out.tsv").exists()


def test_numbers_and_names_do_not_grow_together():
    pieces = ["一共20", "30分钟以后", "我用iPhone", "Google很好", "", "很好"]
    assert glue(pieces, "zh") == "一共20 30分钟以后我用iPhone Google很好很好"
    assert glue(["cafe\u0301", "Google"], "zh") == "cafe\u0301 Google"  # an accent of its own
    assert glue(["กี่", "กี่"], "th") == "กี่กี่"
    assert glue(["ab", "cd"], "ja") == "ab cd" and glue(["ไทย", "ไทย"], "th") == "ไทยไทย"
    assert join(["a \n b", " ", "c"], "de") == "a b c"


@pytest.mark.parametrize(("language", "space", "word"), [("en", " ", "word"), ("zh", "", "词")])
def test_audio_and_text_in_the_same_order(language, space, word, tmp_path):
    """Each utterance is a level of its own, so its place in the window can be heard."""
    data, level = KaldiDir(), {}
    for i in range(9):
        utt, wav = f"spk-{i}", tmp_path / f"{i}.wav"
        level[f"{word}{i}"] = (i + 1) / 16
        save_wav(wav, np.full(16000, level[f"{word}{i}"], np.float32))
        data.add(utt, wav, f"{word}{i}", "spk", language, utt2num_samples=16000)
    data.save(tmp_path / "raw")
    raw = KaldiDir.load(tmp_path / "raw", extra=["utt2num_samples"])
    pack(raw, tmp_path / "packed", longest=5.0, singles=2, seed=1)
    packed = validate(tmp_path / "packed")
    hashes = KaldiDir.load(tmp_path / "packed", extra=[AUDIO]).extra[AUDIO]
    assert hashes == packed.audio() == {u: sha256(path) for u, path in packed.wav.items()}
    assert len(packed.wav) == 5 and sum(t.count(word) == 1 for t in packed.text.values()) == 2
    for utt, text in packed.text.items():
        texts = re.findall(rf"{word}\d", text)
        assert text == space.join(texts)
        audio = load_audio(packed.wav[utt])
        heard = audio[np.flatnonzero(np.diff(audio, prepend=0.0))]
        heard = [x for x in heard if x > 0]
        assert np.allclose(heard, [level[w] for w in texts], atol=1e-4)


@pytest.mark.slow
def test_shared_by_all_that_want_the_same(tmp_path, capsys):
    """Packed once for the same seed; again for another, and when a clip sounds otherwise."""
    data = KaldiDir()
    for i in range(4):
        utt, wav = f"spk-{i}", tmp_path / f"{i}.wav"
        save_wav(wav, np.full(16000, i / 8, np.float32))
        data.add(utt, wav, f"word{i}", "spk", "en", utt2num_samples=16000)
    data.save(tmp_path / "raw")

    def packed(name, seed=0, shared=True):
        args = ["--data", str(tmp_path / "raw"), "--out", str(tmp_path / name)]
        args += ["--shared", str(tmp_path / "shared")] if shared else []
        pack_windows([*args, "--seed", str(seed)])
        validate(tmp_path / name)
        return (tmp_path / name).resolve()

    first = packed("one")
    made = (first / "wav.scp").stat().st_mtime_ns
    assert first.parent == tmp_path / "shared" and (tmp_path / "one").is_symlink()
    assert packed("two") == first and (first / "wav.scp").stat().st_mtime_ns == made
    assert ": 1 windows" in capsys.readouterr().out
    minutes = json.loads((tmp_path / "two.minutes.json").read_text())
    assert minutes["en"]["given"] == pytest.approx(4 / 60)
    assert 4.3 / 60 <= minutes["en"]["heard"] <= 5.5 / 60  # with three pauses
    assert packed("two", seed=1) != first
    assert packed("two", shared=False) == first and (tmp_path / "two").is_symlink()
    save_wav(tmp_path / "0.wav", np.full(16000, 0.7, np.float32))
    first, old = packed("one"), first
    assert first != old
    shutil.rmtree(first)
    with ThreadPoolExecutor(1) as other:
        with alone(first):  # another is packing them
            waits = other.submit(packed, "three")
            with pytest.raises(TimeoutError):
                waits.result(timeout=1)
            assert not first.exists()
            shutil.copytree(old, first)
            made = (first / "wav.scp").stat().st_mtime_ns
        assert waits.result() == first and (first / "wav.scp").stat().st_mtime_ns == made
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match=r"own: was made without --shared"):
        packed("own")


def test_languages_of_few_hours_are_heard_more_often():
    data, seconds = tables([6.0] * 300)
    few = {f"u{i:03d}" for i in range(300) if i % 3 == 1 and i > 30}  # of ru only 10 stay
    for utt in few:
        for table in (data.wav, data.text, data.utt2spk, data.utt2lang, seconds):
            del table[utt]
    given = Counter(data.utt2lang.values())
    assert given == {"en": 100, "ru": 10, "fr": 100}

    def heard(**balance):
        windows = plan_windows(data, seconds, 29.5, 0, 3, balance=Balance(**balance))
        assert windows == plan_windows(data, seconds, 29.5, 0, 3, balance=Balance(**balance))
        return Counter(data.utt2lang[u] for w in windows for u in w)

    assert heard() == given
    for temperature in (2.0, 5.0):
        shares = {lang: n ** (1 / temperature) for lang, n in given.items()}
        expected = {lang: 210 * s / sum(shares.values()) for lang, s in shares.items()}
        assert heard(temperature=temperature) == pytest.approx(expected, abs=1)
    # 0.05 hours are 30 clips of 6 s.
    assert heard(max_hours=0.05) == {"en": 30, "ru": 10, "fr": 30}
    windows = plan_windows(data, seconds, 29.5, 0, 3, balance=Balance(5.0))
    most = Counter(u for w in windows for u in w if data.utt2lang[u] == "ru")
    assert len(most) == 10 and max(most.values()) - min(most.values()) <= 1
    # Those that are alone in a window as well are some of these.
    windows = plan_windows(data, seconds, 29.5, 60, 3, balance=Balance(max_hours=0.05))
    packed, alone = windows[:-60], windows[-60:]
    assert {u for w in alone for u in w} <= {u for w in packed for u in w}
    windows = plan_windows(data, seconds, 29.5, 60, 3, balance=Balance(5.0))
    assert sum(data.utt2lang[u] == "ru" for (u,) in windows[-60:]) > 10
    with pytest.raises(InputError, match=r"temperature 0\.5"):
        Balance(0.5)


def test_a_window_beyond_whisper_is_refused():
    data, seconds = tables([1.0])
    with pytest.raises(InputError, match="31"):
        plan_windows(data, seconds, 31, 0, 0)
