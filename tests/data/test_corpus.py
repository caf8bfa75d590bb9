import json
from collections import Counter

import numpy as np
import pytest
import soundfile

from espnet_dq.data.corpus import Clip, audio_fault, prepare, text_fault
from espnet_dq.data.kaldi import KaldiDir
from espnet_dq.data.summary import write_splits
from espnet_dq.data.validation import faults
from espnet_dq.errors import WorkError


def clip(tmp_path, prompt, text, length=1.0, lang="en"):
    path = tmp_path / "src" / f"{prompt}.ogg"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0, 0.1, int(8000 * length))
    soundfile.write(path, noise, 8000)
    return Clip(lang, prompt, "corpus_voice", path, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Activated.", None),
        ("at [@]", None),
        ("Pour (emphase)", None),
        ("да", None),
        ("", "empty text"),
        (" \t", "empty text"),
        ("(ahooga)", "not speech"),
        ("[ tono de error ]", "not speech"),
        ("<beep ascending>", "not speech"),
        ("...", "not speech"),
    ],
)
def test_text_fault(text, fault):
    assert text_fault(text, "en") == fault


@pytest.mark.parametrize(
    ("seconds", "text", "fault"),
    [
        (1.25, "y", None),
        (0.4, "b", None),
        (30.0, "a b c d e f g " * 20, None),
        (30.01, "a b c d e f g " * 20, "longer than 30 s"),
        (0.4, "un suono di beep discendente", "text does not fit the length of the audio"),
        (9.0, "a b", "text does not fit the length of the audio"),
    ],
)
def test_audio_fault(seconds, text, fault):
    assert audio_fault(seconds, text, "en") == fault


def test_utterance_ids_are_safe(tmp_path):
    made = Clip("en", "digits/a b+ü", "asterisk_en", tmp_path / "x", "one")
    assert made.utt == "asterisk_en-digits-a-b--"


@pytest.mark.parametrize("nj", [1, 2])
def test_prepare(tmp_path, capsys, nj):
    bad = clip(tmp_path, "bad", "These words are lost.")
    bad.audio.write_bytes(bad.audio.read_bytes()[:20])
    clips = [
        clip(tmp_path, "vm/one", "One, as written!"),
        clip(tmp_path, "beep", "(beep)"),
        clip(tmp_path, "long", "too long " * 30, length=30.5),
        clip(tmp_path, "два", "Два слова", lang="ru"),
        bad,
    ]
    out = tmp_path / "out"
    prepare("tiny", clips, {"en": Counter({"audio without transcript": 2})}, out, nj)
    part = out / "parts/tiny"
    assert faults(part) == []
    data = KaldiDir.load(part, extra=["utt2prompt", "utt2dur"])
    one = "corpus_voice-vm-one"
    assert data.text[one] == "One, as written!"
    assert data.extra["utt2prompt"][one] == "vm/one"
    assert float(data.extra["utt2dur"][one]) == pytest.approx(1.0, abs=0.03)
    assert data.wav[one] == str(*(out / "wav/en/vm").glob("one.*.wav"))
    assert soundfile.info(data.wav[one]).samplerate == 16000
    assert set(data.utt2lang.values()) == {"en", "ru"}
    assert json.loads((part / "left_out.json").read_text()) == {
        "en": {
            "audio without transcript": 2,
            "longer than 30 s": 1,
            "not speech": 1,
            "unreadable audio": 1,
        }
    }
    printed = capsys.readouterr()
    assert str(bad.audio) in printed.out + printed.err


def test_finished_audio_is_used_again(tmp_path):
    clips = [clip(tmp_path, "one", "One."), clip(tmp_path, "two", "Two.")]
    prepare("tiny", clips, {}, tmp_path / "out")
    one, two = ((tmp_path / "out/wav/en").glob(f"{x}.*.wav") for x in ("one", "two"))
    (one,), (two,) = one, two
    before = one.stat().st_ino
    two.unlink()  # as after a kill
    prepare("tiny", clips, {}, tmp_path / "out")
    assert one.stat().st_ino == before and two.exists()


def test_clashing_ids_and_empty_corpora_are_refused(tmp_path):
    clash = [clip(tmp_path, "a/b", "One."), clip(tmp_path, "a-b", "Two.")]
    with pytest.raises(WorkError, match="corpus_voice-a-b"):
        prepare("tiny", clash, {}, tmp_path / "out")
    with pytest.raises(WorkError, match="no usable clip"):
        prepare("tiny", [clip(tmp_path, "beep", "(beep)")], {}, tmp_path / "out")
    assert not (tmp_path / "out/parts").exists()


def test_report(tmp_path):
    wav = tmp_path / "a.wav"
    wav.write_bytes(b"x")
    one = KaldiDir(
        {"s-a": str(wav)}, {"s-a": "a"}, {"s-a": "s"}, {"s-a": "ru"}, {"utt2dur": {"s-a": "90"}}
    )
    out = tmp_path / "out"
    write_splits(out, dict.fromkeys(("train", "dev", "test"), one), {"es": Counter(beep=2)})
    assert json.loads((out / "report.json").read_text()) == {
        "es": {"train": 0, "dev": 0, "test": 0, "minutes": 0.0, "left_out": {"beep": 2}},
        "ru": {"train": 1, "dev": 1, "test": 1, "minutes": 4.5, "left_out": {}},
    }
    with pytest.raises(WorkError, match="dev"):
        write_splits(out, {"train": one, "dev": KaldiDir()}, {})
