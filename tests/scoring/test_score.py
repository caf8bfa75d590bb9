"""bin.score on small folders, against jiwer called by hand and against sclite."""

import json
import logging

import jiwer
import pytest
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.bin.score import main
from espnet_dq.errors import InputError
from espnet_dq.scoring import sclite
from espnet_dq.scoring.results import tables
from espnet_dq.scoring.score import score

PROGRAM = sclite.find()

REF = {
    "en-1": ("en", "Hello, World! It's (quietly) 5 o'clock."),
    "en-2": ("en", "Yes."),
    "en-3": ("en", "[beep]"),  # normalises to nothing
    "fr-1": ("fr", "L'été, à Besançon; un cœur {gros} @ demi."),
    "ru-1": ("ru", "Ёлка стоит в лесу, и всё тихо…"),
    "ru-2": ("ru", "Введите пароль, затем нажмите решётку"),
}
HYP = {
    "en-1": "hello word its five o'clock",
    "en-2": "",
    "fr-1": "l'été a Besançon un coeur gros et demi",
    "ru-1": "Елка стоит в лесу и все тихо",
}


def folder(path, ref=REF, hyp=HYP):
    """A data folder and a decode folder."""
    (path / "data").mkdir(parents=True)
    (path / "tiny").mkdir()
    lines = {
        "data/text": [f"{u} {text}" for u, (_, text) in ref.items()],
        "data/utt2lang": [f"{u} {lang}" for u, (lang, _) in ref.items()],
        "tiny/text": [f"{u} {text}".strip() for u, text in hyp.items()],
    }
    for name, rows in lines.items():
        (path / name).write_text("".join(r + "\n" for r in rows), encoding="utf-8")
    return path


def call(path, *more):
    args = ["--ref", path / "data", "--hyp", path / "tiny", "--out", path / "tiny" / "score"]
    return main([str(a) for a in [*args, *more]])


def test_rates_are_jiwers_after_the_normaliser(tmp_path, capsys):
    assert call(folder(tmp_path)) == 0
    out = tmp_path / "tiny" / "score"
    result = json.loads((out / "score.json").read_text(encoding="utf-8"))
    norm = BasicTextNormalizer()
    for lang in ("en", "fr", "ru"):
        kept = [u for u, (own, _) in REF.items() if own == lang and u != "en-3"]
        raw_ref, raw_hyp = [REF[u][1] for u in kept], [HYP.get(u, "") for u in kept]
        ref, hyp = [norm(t) for t in raw_ref], [norm(t) for t in raw_hyp]
        lower = [t.lower() for t in raw_ref], [t.lower() for t in raw_hyp]
        long = [i for i, t in enumerate(raw_ref) if len(t) >= 15]
        longs = [ref[i] for i in long], [hyp[i] for i in long]
        assert result["wer"][lang] == 100 * jiwer.wer(ref, hyp)
        assert result["cer"][lang] == 100 * jiwer.cer(ref, hyp)
        assert result["wer_raw"][lang] == 100 * jiwer.wer(*lower)
        assert result["cer_raw"][lang] == 100 * jiwer.cer(*lower)
        assert result["wer_long"][lang] == 100 * jiwer.wer(*longs)
        assert result["cer_long"][lang] == 100 * jiwer.cer(*longs)
    for name in ("wer", "cer", "wer_raw", "cer_raw", "wer_long", "cer_long"):
        each = [result[name][k] for k in ("en", "fr", "ru")]
        assert result[name]["mean"] == pytest.approx(sum(each) / 3)
    # The mean weighs languages alike, not words: pooling would give another number here.
    counts = result["counts"]
    pooled = sum(c["sub"] + c["del"] + c["ins"] for c in counts.values())
    assert result["wer"]["mean"] != pytest.approx(
        100 * pooled / sum(c["ref_words"] for c in counts.values())
    )
    assert counts["en"]["utterances"] == 2 and counts["en"]["long_utterances"] == 1
    assert counts["en"]["left_out"] == result["left_out"] == 1
    assert counts["ru"]["missing"] == result["missing"] == 1
    assert counts["en"]["hits"] + counts["en"]["sub"] + counts["en"]["del"] == 8
    printed = capsys.readouterr().out
    assert f"WER: mean {result['wer']['mean']:.1f} %" in printed
    assert "counted as empty: 1" in printed and "left out: 1" in printed


def test_several_folders_in_one_go(tmp_path):
    folder(tmp_path)
    perfect = tmp_path / "perfect"
    perfect.mkdir()
    (perfect / "text").write_text("".join(f"{u} {text}\n" for u, (_, text) in REF.items()))
    hyps = [str(tmp_path / "tiny"), str(perfect)]
    args = ["--ref", str(tmp_path / "data"), "--hyp", *hyps]
    with pytest.raises(InputError, match="--out: for one --hyp only"):
        main([*args, "--out", str(tmp_path / "score")])
    assert main(args) == 0
    rates = [json.loads((tmp_path / d / "score/score.json").read_text())["wer"]["mean"]
             for d in ("tiny", "perfect")]  # fmt: skip
    assert rates[0] > 0 == rates[1]


@pytest.mark.skipif(PROGRAM is None, reason="sclite (Debian: sctk) is not installed")
def test_tables_with_and_without_sclite_are_the_same(tmp_path, caplog):
    folder(tmp_path)
    caplog.set_level(logging.INFO)
    ours = score(tmp_path / "data", tmp_path / "tiny", tmp_path / "a", None)
    assert "sclite is not installed" in caplog.text and ours["tool"].startswith("own")
    theirs = score(tmp_path / "data", tmp_path / "tiny", tmp_path / "b", PROGRAM)
    assert theirs["tool"].startswith("sclite 2.")
    assert theirs["table"] == ours["table"]
    assert "SYSTEM SUMMARY PERCENTAGES" in (tmp_path / "b/score_wer/result.txt").read_text()
    assert {k: v for k, v in ours.items() if k != "tool"} == {
        k: v for k, v in theirs.items() if k != "tool"
    }


def test_result_block(tmp_path):
    result = score(folder(tmp_path) / "data", tmp_path / "tiny", tmp_path / "out", None)
    block = tables({"tiny/test": result})
    head, wer = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|", block.split("### CER")[0]
    assert block.count(head) == 2 and wer.startswith("### WER")
    total = next(line for line in wer.splitlines() if line.startswith("|tiny/test|"))
    assert total.split("|")[2:4] == ["5", "28"]
    assert sum(line.startswith("|tiny/test/") for line in wer.splitlines()) == 3


def test_perfect_and_no_long_part(tmp_path):
    folder(tmp_path, {"x": ("en", "Yes, no.")}, {"x": "yes no"})
    result = score(tmp_path / "data", tmp_path / "tiny", tmp_path / "out", None)
    assert result["wer"] == {"en": 0.0, "mean": 0.0}
    assert result["wer_raw"]["en"] == 100.0
    assert result["wer_long"] == {"en": None, "mean": None}


def test_long_is_counted_on_the_text_as_written(tmp_path):
    """15 characters as written, 13 once normalised: long; 14 as written: not."""
    ref = {"a": ("en", "One two three.."), "b": ("en", "One two three.")}
    result = score(folder(tmp_path, ref, {}) / "data", tmp_path / "tiny", tmp_path / "out", None)
    assert result["counts"]["en"]["long_utterances"] == 1
    assert result["counts"]["en"]["utterances"] == 2


@pytest.mark.parametrize(
    ("ref", "hyp", "said"),
    [
        (REF, {**HYP, "zz": "who"}, "tiny/text: utterance zz is not in"),
        ({"a": ("en", "[noise]")}, {"a": "x"}, "no reference left to score"),
    ],
)
def test_bad_input_is_named(tmp_path, ref, hyp, said):
    with pytest.raises(InputError, match=said):
        call(folder(tmp_path, ref, hyp))
    assert not (tmp_path / "tiny" / "score").exists()


def test_missing_language_is_named(tmp_path):
    (folder(tmp_path) / "data" / "utt2lang").write_text("en-1 en\n")
    with pytest.raises(InputError, match="utt2lang: no language for utterance en-2"):
        call(tmp_path)


def test_missing_folder_is_named(tmp_path):
    (folder(tmp_path) / "tiny" / "text").unlink()
    with pytest.raises(InputError, match="tiny/text"):
        call(tmp_path)
