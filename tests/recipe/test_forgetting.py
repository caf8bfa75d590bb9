"""benchmarks/forgetting.py: the real tiny on real prompts, and its pieces on made-up ones."""

import json
from pathlib import Path

import jiwer
import numpy as np
import pytest

import forgetting
from espnet_dq.data.audio import SAMPLE_RATE, load_audio
from espnet_dq.data.kaldi import KaldiDir, read_scp
from espnet_dq.data.spelling import normalise
from espnet_dq.data.texts import as_said
from espnet_dq.errors import InputError

PROMPTS = (
    ("en", "conf-onlyperson"),
    ("en", "agent-incorrect"),
    ("es", "conf-onlyperson"),
    ("ru", "agent-incorrect"),
)
EN = [f"voice_en-{name}" for lang, name in PROMPTS if lang == "en"]


@pytest.fixture(scope="module")
def prompts(real_clip, tmp_path_factory) -> Path:
    data = KaldiDir()
    for lang, name in PROMPTS:
        wav, _, text = real_clip(lang, name)
        utt = f"voice_{lang}-{name}"
        data.add(utt, wav, text, f"voice_{lang}", lang)
    folder = tmp_path_factory.mktemp("forgetting") / "prompts"
    data.save(folder)
    return folder


@pytest.mark.slow
def test_all_tasks_with_tiny_and_only_what_is_missing_again(
    prompts, weights_dir, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out.jsonl"
    command = ["--models", f"tiny={weights_dir / 'tiny.pt'}", "--data", f"asterisk={prompts}"]
    command += ["--threads", "1", "--work", str(tmp_path / "work"), "--out", str(out)]
    assert forgetting.main(command) == 0
    lines = {line["task"]: line for line in map(json.loads, out.read_text().splitlines())}
    assert list(lines) == ["errors", "language", "long", "translation"]
    assert all(x["clips"] == {"en": 2, "es": 1, "ru": 1} for x in lines.values())
    said = read_scp(tmp_path / "work/decode/tiny/asterisk/text")
    pairs = [tuple(normalise(x[u], "en") for x in (KaldiDir.load(prompts).text, said)) for u in EN]
    wer = jiwer.wer(*(list(side) for side in zip(*pairs, strict=True)))
    assert lines["errors"]["scores"]["wer"]["en"] == pytest.approx(100 * wer) and wer < 0.25
    assert lines["language"]["scores"]["right"]["en"] == 100
    assert lines["language"]["heard"]["en"] == {"en": 2}
    long = lines["long"]["scores"]
    assert long["wer"]["en"] < 25 and long["found"]["en"] == 100 and long["placed"]["en"] > 80
    # Whisper begins a segment where the one before ended, so up to a pause too early.
    assert 0 < long["start_median"]["en"] < 2 and 0 < long["end_median"]["en"] < 2
    translation = lines["translation"]
    assert translation["translated"] == {"es": 1, "ru": 1}
    scores = translation["scores"]
    assert scores["english_f1"]["mean"] > 25 and scores["transcript_f1"]["mean"] < 10
    shown = capsys.readouterr().out
    assert "### asterisk: long" in shown and "|wer|tiny|" in shown

    kept = out.read_text().splitlines(keepends=True)
    out.write_text("".join(kept[:1] + kept[2:]))
    for task in ("errors", "long", "translation"):
        monkeypatch.setitem(forgetting.TASKS, task, None)
    assert forgetting.main(command) == 0
    assert [json.loads(x)["task"] for x in out.read_text().splitlines()][-1] == "language"
    assert capsys.readouterr().out.count("###") == 4


def test_recording_has_the_clips_where_it_says_and_noise_between(prompts):
    data = KaldiDir.load(prompts)
    clips = {as_said(text): load_audio(data.wav[utt]) for utt, text in data.text.items()}
    audio, truth = forgetting.recording(data, list(data.wav), 10, np.random.default_rng(0))
    assert sorted(x.text for x in truth) == sorted(clips)
    before = 0
    for segment in truth:
        start, end = (round(x * SAMPLE_RATE) for x in (segment.start, segment.end))
        assert 0.5 <= (start - before) / SAMPLE_RATE <= 2.0
        assert 0 < np.abs(audio[before:start]).max() < 1e-3
        # A part of the clip, of which what is left out is faint.
        clip, cut = clips[segment.text], audio[start:end]
        (at,) = (
            i for i in range(0, len(clip), 160) if np.array_equal(clip[i:][: end - start], cut)
        )
        rest = np.concatenate([clip[:at], clip[at + len(cut) :]])
        assert np.abs(rest).max(initial=0) < 0.1 * np.abs(clip).max()
        before = end
    assert before == len(audio)
    again, _ = forgetting.recording(data, list(data.wav), 10, np.random.default_rng(0))
    assert np.array_equal(audio, again)


def test_f1_counts_repeated_words_as_often_as_both_have_them():
    pairs = [(list("aab"), list("aaac")), (["d"], [])]
    assert forgetting.f1(pairs) == pytest.approx(100 * 2 * 2 / (3 + 4 + 1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--models", "tiny.pt", "--data", "a=b"], "--models tiny.pt"),
        (["--models", "a=b", "a=c", "--data", "a=b"], "--models a=c"),
        (["--models", "a=no_such.pt", "--data", "a=b"], "no_such.pt"),
    ],
)
def test_wrong_options_are_named(options, named, tmp_path):
    with pytest.raises(InputError, match=named):
        forgetting.main([*options, "--work", str(tmp_path / "w"), "--out", str(tmp_path / "o")])
