"""Texts that cannot have been said: tried again, else cut, and counted."""

import json

import numpy as np
import pytest

import espnet_dq as dq
from espnet_dq.bin.decode import main as decode
from espnet_dq.bin.transcribe import main as transcribe
from espnet_dq.data.audio import SAMPLE_RATE, save_wav
from espnet_dq.data.kaldi import read_scp, write_scp
from espnet_dq.decode import guard, halves
from espnet_dq.decode.printing import _told
from espnet_dq.runtimes.interface import Hypothesis, Segment, whole

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOOP = "Cappa. " + "C-" * 112


def sound(seconds, loudness=0.1):
    audio = np.tile(np.float32([loudness, -loudness]), round(seconds * SAMPLE_RATE / 2))
    return audio.astype(np.float32)


class Scripted:
    """Says of a clip what is written for its loudness, greedily and at each temperature."""

    window, batch, workers, threads, most_tokens = 30.0, 2, 1, 1, 444
    languages, compute_type, options = frozenset(["it", "ja"]), "float32", {"beam_size": 1}

    def __init__(self, **said):
        self.said, self.asked = said, []

    def decode(self, clips, language):
        return [self._said(self._parts(clip, 0.0)) for clip in clips]

    def transcribe(self, audio, language, timestamps, temperatures=TEMPERATURES):
        self.asked.append(temperatures)
        parts = self._parts(audio, temperatures[0])
        if not timestamps:
            return whole(audio, self._said(parts))
        limit = self._said(parts).limit
        return [Segment(float(n), n + 1.0, text, limit) for n, text in enumerate(parts)]

    def _said(self, parts):
        """A loop ends where the decoder does."""
        text = " ".join(parts)
        return Hypothesis(text, "cut" if text.endswith(LOOP[-9:]) else "")

    def _parts(self, clip, temperature):
        said = self.said[f"at{round(10 * float(np.abs(clip).max()))}"]
        text = said[min(TEMPERATURES.index(temperature), len(said) - 1)]
        return text if isinstance(text, list) else [text]


def test_what_can_have_been_said_is_as_it_was():
    runtime = Scripted(at1=["Buongiorno a tutti."], at2=[["Uno.", "Due."]])
    clips = [sound(3, 0.1), sound(3, 0.2)]
    assert guard.decode(runtime, clips, "it") == halves.decode(runtime, clips, "it")
    found = guard.transcribe(runtime, clips[1], "it", True)
    assert found == [Segment(0.0, 1.0, "Uno."), Segment(1.0, 2.0, "Due.")]
    assert runtime.asked == [TEMPERATURES]  # by `transcribe`, and once


@pytest.mark.parametrize(
    ("said", "text", "what", "tried"),
    [
        ([LOOP, "Kappa."], "Kappa.", "again", 1),
        ([LOOP, LOOP, "K" * 90, "Kappa."], "Kappa.", "again", 3),
        ([LOOP, ""], "", "again", 1),
        ([LOOP], "Cappa. C", "cut", 5),
        (["Parola " + "di " * 40 + "altre parole"], "Parola di altre parole", "cut", 5),
    ],
)
def test_it_is_tried_again_and_else_cut(said, text, what, tried):
    runtime = Scripted(at1=["Prima."], at2=said, at3=["Ultima."])
    clips = [sound(4, 0.1), sound(4, 0.2), sound(4, 0.3)]
    limit = "cut" if said == [LOOP] else ""
    expected = [Hypothesis("Prima."), Hypothesis(text, limit, what), Hypothesis("Ultima.")]
    assert guard.decode(runtime, clips, "it") == expected
    assert runtime.asked == [TEMPERATURES[n:] for n in range(1, tried + 1)]


def test_silence_takes_no_time_to_say_anything():
    """The text fits into the clip, but not into what sounds in it."""
    text = "Quaranta parole in trenta secondi non sono troppe ma qui nessuno parla per tanto tempo"
    quiet = np.zeros(29 * SAMPLE_RATE, np.float32)
    runtime = Scripted(at1=[text])
    assert guard.decode(runtime, [sound(30)], "it") == [Hypothesis(text)]
    (said,) = guard.decode(runtime, [np.concatenate([quiet, sound(1)])], "it")
    # 30 letters for each of the 1.2 s that sound, edges included, and 10.
    assert said.guard == "cut" and text.startswith(said.text)
    assert len(said.text.replace(" ", "")) == 46


def test_in_silence_nothing_is_said_and_nothing_tried():
    runtime = Scripted(at0=["Sottotitoli a cura di nessuno"])
    clip = np.zeros(3 * SAMPLE_RATE, np.float32)
    assert guard.decode(runtime, [clip], "it") == [Hypothesis("", guard="cut")]
    (segment,) = guard.transcribe(runtime, clip, "it", True)
    assert segment == Segment(0.0, 3.0, "", guard="cut") and len(runtime.asked) == 1


def test_what_is_said_again_and_again_is_not_tried_again():
    """An announcement in its time; unless the decoder ran on to its last position."""
    said = "All our lines are busy, please hold."
    runtime = Scripted(at1=[[said] * 4, "All our lions are busy, peace old."])
    found = guard.transcribe(runtime, sound(28), "it", True)
    assert [s.text for s in found] == [said] * 4 and len(runtime.asked) == 1
    runtime._said = lambda parts: Hypothesis(" ".join(parts), "cut" if len(parts) > 1 else "")
    found = guard.transcribe(runtime, sound(28), "it", True)
    assert [s.text for s in found] == ["All our lions are busy, peace old."]


@pytest.mark.parametrize("timestamps", [[], ["--timestamps"]])
def test_another_attempts_text_is_told(timestamps, tmp_path, monkeypatch, capsys):
    """Also of one that says nothing; without the guard there is none."""
    said = {"at1": ["Prima."], "at2": [LOOP, "Kappa."], "at3": [LOOP, ""], "at4": [LOOP]}
    monkeypatch.setattr("espnet_dq.decode.printing.load_runtime", lambda *_, **__: Scripted(**said))
    monkeypatch.setattr("espnet_dq.api.speech.load_runtime", lambda *_, **__: Scripted(**said))
    pause = np.zeros(SAMPLE_RATE, np.float32)
    parts = [part for n in (1, 2, 3, 4) for part in (sound(28, n / 10), pause)]
    save_wav(tmp_path / "x.wav", np.concatenate(parts))
    given = [str(tmp_path / "x.wav"), "--model", "fake", "--language", "it", *timestamps]
    assert transcribe(given) == 0
    out, err = capsys.readouterr()
    assert [line.split("] ")[-1] for line in out.splitlines()] == (
        ["Prima.", "Kappa.", "Cappa. C"] if timestamps else ["Prima. Kappa. Cappa. C"]
    )
    again, nothing, cut = err.splitlines()
    line = "another attempt's text in the place of one that cannot have been said, 0:00:2"
    assert f"x.wav: {line}" in again and f"x.wav: {line[:-6]}0:00:5" in nothing
    assert "x.wav: text cut that cannot have been said, 0:01:2" in cut
    assert transcribe([*given, "--no_guard"]) == 0
    out, err = capsys.readouterr()
    assert out.count(LOOP) == 3 and "cannot have been said" not in err
    texts = [
        [s.text for s in dq.transcribe(given[0], "fake", "it", bool(timestamps), guard=guarded)]
        for guarded in (True, False)
    ]
    assert texts == [["Prima.", "Kappa.", "Cappa. C"], ["Prima.", LOOP, LOOP, LOOP]]


def test_another_attempts_text_that_is_cut_is_told_too(capsys):
    segment = Segment(0.0, 1.0, "Due.", "cut", "again")
    assert [*_told([segment], "x.wav")] == [segment]
    said = capsys.readouterr().err
    assert "cannot have been said and text cut at the decoder's end, 0:00:00" in said


def test_segments_keep_their_times():
    parts = ["Uno.", "Grazie a tutti.", *["Grazie a tutti."] * 20, "Fine."]
    runtime = Scripted(at1=[parts])
    found = guard.transcribe(runtime, sound(24), "it", True)
    assert [s.text for s in found] == parts  # in 24 s it can be said
    found = guard.transcribe(runtime, sound(12), "it", True)
    assert [(s.start, s.text, s.guard) for s in found] == [
        (0.0, "Uno.", ""),
        (1.0, "Grazie a tutti.", "cut"),
        (22.0, "Fine.", ""),
    ]
    runtime = Scripted(at1=[["谢谢观看" * 5, "谢谢观看" * 30, "完"]])
    found = guard.transcribe(runtime, sound(12), "ja", True)
    assert [(s.start, s.text) for s in found] == [(0.0, "谢谢观看"), (2.0, "完")]
    assert [s.guard for s in found] == ["cut", ""]


@pytest.mark.parametrize("timestamps", [[], ["--timestamps"]])
def test_decoding_counts_them_in_parts_as_in_one(timestamps, tmp_path, monkeypatch, capsys):
    """Off unless asked for; an utterance of several pieces is what its worst piece is."""
    said = {"at1": ["Prima."], "at2": [LOOP], "at3": [LOOP, "Kappa."], "at4": [LOOP, ""]}
    monkeypatch.setattr("espnet_dq.decode.folder.load_runtime", lambda *_, **__: Scripted(**said))
    clips = {f"at{n}": sound(4, n / 10) for n in (1, 2, 3, 4)}
    pause = np.zeros(SAMPLE_RATE, np.float32)
    three = [part for n in (1, 3, 2) for part in (sound(28, n / 10), pause)]
    clips["long"] = np.concatenate(three)
    for name, audio in clips.items():
        save_wav(tmp_path / f"data/{name}.wav", audio)
    write_scp(tmp_path / "data/wav.scp", {n: str(tmp_path / f"data/{n}.wav") for n in clips})
    write_scp(tmp_path / "data/utt2lang", dict.fromkeys(clips, "it"))
    given = ["--model", "fake", "--runtime", "torch", "--data", str(tmp_path / "data"), *timestamps]

    def decoded(out, *more):
        decode([*given, "--out", str(tmp_path / out), *more])
        report = json.loads((tmp_path / out / "decode.json").read_text())
        return read_scp(tmp_path / out / "text", empty=True), report, capsys.readouterr().out

    texts, report, line = decoded("plain")
    assert texts["at2"] == texts["at3"] == LOOP
    assert "guard" not in report | report["options"] and "guard" not in line
    texts, report, line = decoded("out", "--guard")
    assert {n: texts[n] for n in ("at1", "at2", "at3", "at4")} == {
        "at1": "Prima.", "at2": "Cappa. C", "at3": "Kappa.", "at4": ""
    }  # fmt: skip
    assert report["guard"]["again"] == ["at3", "at4"] and report["guard"]["cut"] == ["at2", "long"]
    assert report["options"]["guard"] is True
    assert ", guard: 2 tried again, 2 cut" in line
    for part in ("1/2", "2/2"):
        decode([*given, "--out", str(tmp_path / "parts"), "--guard", "--part", part])
    joined = decoded("parts", "--guard", "--join", "2")
    assert joined[0] == texts and joined[1]["guard"] == report["guard"]
