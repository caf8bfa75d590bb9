"""A canary: each window of one voice, of the right kind, and the same again by the same seed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from espnet_dq.bin.make_canary import main
from espnet_dq.data import canary
from espnet_dq.data.audio import SAMPLE_RATE, load_audio, save_wav
from espnet_dq.data.canary import LANGUAGES, NO_SPEECH, SEEN, VOICES
from espnet_dq.data.kaldi import KIND, SET, KaldiDir
from espnet_dq.data.validation import faults
from espnet_dq.errors import InputError
from espnet_dq.scoring.bootstrap import FEWEST
from espnet_dq.whisper.dims import SIZES


@pytest.fixture
def sets(tmp_path):
    """Two sets of 2 s tones: of ann, bob and unknown people in English, of eve in Italian."""
    found = {}
    for name, people in (("one", {"ann": "en", "": "en"}), ("two", {"bob": "en", "eve": "it"})):
        data = KaldiDir()
        for speaker, lang in people.items():
            for number in range(20):
                utt = f"{speaker or name}-{lang}{number:02d}"
                wav = tmp_path / f"{name}/{utt}.wav"
                wav.parent.mkdir(exist_ok=True)
                save_wav(wav, 0.1 * np.sin(np.arange(2 * SAMPLE_RATE) / (5 + number)))
                data.add(utt, wav, f"five words are said {number}", speaker or utt, lang)
        data.save(tmp_path / "sets" / name)
        found[name] = data
    return found


@pytest.mark.slow
def test_kinds_and_voices(sets, tmp_path):
    windows = list(canary.speech(sets, {"ann"}, {"en"}, 60, seed=0))
    kinds = {(w.kind, w.of, w.speaker, w.lang) for w in windows}
    assert kinds == {
        (SEEN, "one", "ann", "en"),
        (VOICES, "one", "", "en"),
        (VOICES, "two", "bob", "en"),
        (LANGUAGES, "two", "eve", "it"),
    }
    words = Counter()
    for window in windows:
        words[window.of, window.lang] += len(window.text.split())
        assert len(window.audio) <= 30 * SAMPLE_RATE
    # A window holds up to 11 of these clips, 55 words, and is drawn if words are missing, or of
    # English one of three.
    assert all(60 <= count <= {"en": 3, "it": 2}[lang] * 55 for (_, lang), count in words.items())
    noisy = list(canary.in_noise(windows, [10, 0], seed=0))
    voices = [w for w in windows if w.kind == VOICES]
    assert Counter(w.kind for w in noisy) == {
        f"other voices, {how} at {snr} dB": len(voices)
        for how in ("stationary noise", "babble")
        for snr in (10, 0)
    }
    for clean, noise in zip(voices * 4, noisy, strict=True):
        assert (clean.text, clean.speaker) == (noise.text, noise.speaker)
        assert clean.audio.shape == noise.audio.shape
        assert not np.array_equal(clean.audio, noise.audio)
    quiet = list(
        canary.no_speech(["en", "it"], 2, seed=0, more={"tone": sets["one"].wav["ann-en00"]})
    )
    assert [w.of for w in quiet[::2]] == [
        "silence", "faint noise", "noise", "hum", "ringing", "tone",
    ]  # fmt: skip
    assert all(len(w.audio) == 2 * SAMPLE_RATE for w in quiet)
    saved = canary.save([*windows, *noisy, *quiet], tmp_path / "canary")
    assert faults(tmp_path / "canary") == []
    assert Counter(saved.extra[KIND].values())[NO_SPEECH] == 12


def test_enough_windows_of_other_voices_for_an_interval(sets):
    assert canary.LEAST == FEWEST
    alone = [w.lang for w in canary.speech({"one": sets["one"]}, {"eve"}, {"en"}, 5, seed=0)]
    assert alone == ["en"] * 4  # as many as there are
    both = [(w.of, w.lang) for w in canary.speech(sets, {"nobody"}, {"en", "it"}, 5, seed=0)]
    assert Counter(both) == {("one", "en"): 2, ("two", "en"): 2, ("two", "it"): 2}
    (few,) = (w for w in canary.speech(sets, {"nobody"}, {"en"}, 5, seed=0) if w.lang == "it")
    assert few.kind == LANGUAGES  # of these there is one, of five words or more


@pytest.mark.slow
def test_the_command_makes_the_same_again(sets, tmp_path, capsys):
    train = KaldiDir()
    train.update(sets["one"].select(["ann-en00"]))
    train.save(tmp_path / "train")
    command = ["--train", str(tmp_path / "train"), "--words", "30"]
    command += ["--sets", *(f"{name}={tmp_path / 'sets' / name}" for name in sets)]
    made = []
    for out in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):  # over the first, too
        assert main([*command, "--out", str(out)]) == 0
        made.append(KaldiDir.load(out, extra=[KIND, SET]))
    assert made[0].fingerprint() == made[1].fingerprint() == made[2].fingerprint()
    said = capsys.readouterr().out
    assert "a: 19 windows: 1 of seen voices, 4 of other voices, " in said
    assert ", 5 of no speech" in said
    for utt, kind in made[0].extra[KIND].items():
        assert (kind == SEEN) == (made[0].utt2spk[utt] == "ann")
    first = min(made[0].wav)
    assert load_audio(made[0].wav[first]).any()


def test_wrong_sets(sets, tmp_path):
    sets["one"].save(tmp_path / "train")
    for given, why in (("x", "not NAME=DIR"), (f"x={tmp_path}/none", "none")):
        with pytest.raises(InputError, match=why):
            main(
                ["--train", str(tmp_path / "train"), "--sets", given, "--out", str(tmp_path / "o")]
            )
    (tmp_path / "sets/one/segments").write_text("")
    with pytest.raises(InputError, match="segments"):  # else whole recordings for their parts
        main(["--train", str(tmp_path / "train"), "--sets", f"x={tmp_path}/sets/one", "--out", "o"])
    with pytest.raises(InputError, match="--student goes with --choice"):
        main(["--train", "t", "--sets", "x=y", "--out", "o", "--student", "s.pt"])
    with pytest.raises(InputError, match="no windows"):
        canary.save([], tmp_path / "canary")


@pytest.mark.slow
def test_a_choice_is_made_for_its_student(sets, tmp_path, monkeypatch):
    """In windows that it hears, of languages that it has a token for, clean, of others only."""
    train = KaldiDir()
    train.add("ann-1", "/a.wav", "words", "ann", "en")
    for utt in [u for u in sets["two"].wav if sets["two"].utt2lang[u] == "it"][:5]:
        sets["two"].utt2lang[utt] = "yue"
    for seconds, context in ((30, 1500), (10, 500)):
        dims = replace(SIZES["tiny"], n_audio_ctx=context)
        data = canary.choice(sets, train, tmp_path / f"{seconds}", dims, words=60)
        assert {*data.extra[KIND].values()} == {VOICES, LANGUAGES}
        assert {*data.utt2lang.values()} == {"en", "it"} and "ann" not in data.utt2spk.values()
        lengths = [len(load_audio(path)) / SAMPLE_RATE for path in data.wav.values()]
        assert seconds - 6 < max(lengths) <= seconds
    data = canary.choice(sets, train, tmp_path / "v3", SIZES["large-v3"], words=60)
    assert "yue" in data.utt2lang.values()
    only = {"one": sets["one"].select(u for u in sets["one"].wav if u.startswith("ann"))}
    with pytest.raises(InputError, match="one: neither other voices nor other languages"):
        canary.choice(only, train, tmp_path / "none")
    assert not (tmp_path / "none").exists()
