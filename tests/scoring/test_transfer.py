"""Ratios of a canary's kinds, against jiwer and arithmetic by hand."""

import json

import jiwer
import pytest

from espnet_dq.data.canary import NO_SPEECH, VOICES
from espnet_dq.data.kaldi import KIND, SET, KaldiDir, write_scp
from espnet_dq.scoring import transfer

SAID = {
    "u1": ("en", "one two three four", "one two tree four", "won to three for"),
    "u2": ("en", "five six seven", "five six seven", "five six seven eight"),
    "u3": ("it", "uno due tre", "uno due tre", "un duo trei"),
    "u4": ("it", "quattro cinque", "quatro cinque", "quatro cinc"),
}


@pytest.fixture
def folder(tmp_path):
    data = KaldiDir()
    for utt, (lang, text, *_) in SAID.items():
        data.add(utt, "x.wav", text, utt, lang, **{KIND: VOICES, SET: "stamps"})
    data.add("u5", "x.wav", "(hum)", "u5", "en", **{KIND: NO_SPEECH, SET: "hum"})
    data.save(tmp_path / "canary")
    for name, column in (("ours", 2), ("first", 3)):
        (tmp_path / name).mkdir()
        said = {utt: row[column] for utt, row in SAID.items()} | {"u5": "thank you"}
        write_scp(tmp_path / name / "text", said)
    return tmp_path


def test_by_words_and_where_it_is_hard_by_characters(folder):
    canary = KaldiDir.load(folder / "canary", extra=[KIND, SET])
    ours, first = (transfer.heard(folder / "canary", folder / x) for x in ("ours", "first"))
    found = transfer.compare(canary, ours, first)
    assert list(found) == [VOICES]  # nothing of no speech is compared
    english, italian = found[VOICES]["stamps en"], found[VOICES]["stamps it"]

    def rates(lang, column, count):
        rows = [row for row in SAID.values() if row[0] == lang]
        return 100 * count([row[1] for row in rows], [row[column] for row in rows])

    assert english["by"] == "wer" and english["words"] == 7 and english["windows"] == 2
    assert english["wer"] == pytest.approx(rates("en", 2, jiwer.wer))
    assert english["ratio"] == pytest.approx((1 / 7) / (4 / 7))
    assert rates("it", 3, jiwer.wer) > transfer.HARD  # the first's, who decides
    assert italian["by"] == "cer"
    assert italian["cer"] == pytest.approx(rates("it", 2, jiwer.cer))
    ratio = rates("it", 2, jiwer.cer) / rates("it", 3, jiwer.cer)
    assert italian["ratio"] == pytest.approx(ratio)
    assert found[VOICES]["mean"]["ratio"] == pytest.approx((0.25 + ratio) / 2)
    assert english["speakers"] is None


def test_a_window_in_circles_counts_as_one_that_was_not_heard(folder):
    circles = {utt: row[2] for utt, row in SAID.items()} | {"u1": "one " * 200}
    silence = circles | {"u1": "la la la la"}  # an error for each of its four words
    canary = KaldiDir.load(folder / "canary", extra=[KIND, SET])
    first, found = transfer.heard(folder / "canary", folder / "first"), []
    for said in (circles, silence):
        write_scp(folder / "ours/text", said)
        ours = transfer.heard(folder / "canary", folder / "ours")
        found.append(transfer.compare(canary, ours, first)[VOICES])
    assert [of["stamps en"]["ratio"] for of in found] == [199 / 4, 4 / 4]
    assert [of["stamps en"]["capped"]["ratio"] for of in found] == [1, 1]
    italian = found[0]["stamps it"]  # nothing to cut: all is as it was
    assert italian["capped"] == {key: italian[key] for key in ("ratio", "low", "high")}
    mean = (1 + italian["ratio"]) / 2
    assert found[0]["mean"]["capped"]["ratio"] == pytest.approx(mean)


def test_words_where_nobody_speaks(folder):
    canary = KaldiDir.load(folder / "canary", extra=[KIND, SET])
    said = {"u5": "Thank you!", "u1": "one"}
    assert transfer.words_a_minute(canary, said, {"u5": 30.0}) == {"mean": 4.0, "hum": 4.0}
    assert transfer.words_a_minute(canary, {"u5": ""}, {"u5": 30.0}) == {"mean": 0.0, "hum": 0.0}


def test_where_the_first_makes_no_error(folder):
    """No ratio there, none in the mean, and nothing that JSON cannot hold."""
    said = {utt: row[1 if row[0] == "en" else 3] for utt, row in SAID.items()}
    write_scp(folder / "first/text", said)
    canary = KaldiDir.load(folder / "canary", extra=[KIND, SET])
    sides = (transfer.heard(folder / "canary", folder / x) for x in ("ours", "first"))
    found = transfer.compare(canary, *sides)[VOICES]
    assert found["stamps en"]["ratio"] is None and found["stamps en"]["wer"] == 100 / 7
    assert found["mean"]["ratio"] == found["stamps it"]["ratio"] > 0
    json.dumps(found, allow_nan=False)
