"""bin.score on small folders, against jiwer called by hand and against sclite."""

import json
import logging

import jiwer
import pytest
from whisper.normalizers import BasicTextNormalizer

from espnet_dq.bin.score import main
from espnet_dq.data.kaldi import read_scp, write_scp
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
        long = [i for i, t in enumerate(raw_ref) if len(t) >= 15]
        longs = [ref[i] for i in long], [hyp[i] for i in long]
        for form in ("", "_openai"):
            assert result[f"wer{form}"][lang] == 100 * jiwer.wer(ref, hyp)
            assert result[f"cer{form}"][lang] == 100 * jiwer.cer(ref, hyp)
        assert result["unit"][lang] == "word"
        assert result["wer_unnormalised"][lang] == 100 * jiwer.wer(raw_ref, raw_hyp)
        assert result["cer_unnormalised"][lang] == 100 * jiwer.cer(raw_ref, raw_hyp)
        assert result["wer_long"][lang] == 100 * jiwer.wer(*longs)
        assert result["cer_long"][lang] == 100 * jiwer.cer(*longs)
    for name in ("wer", "cer", "wer_unnormalised", "cer_unnormalised", "wer_long", "cer_long"):
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
    assert "openai-whisper's own normaliser gives the same rates" in printed


def test_several_folders_in_one_go(tmp_path, monkeypatch, capsys):
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
    monkeypatch.chdir(perfect)
    capsys.readouterr()
    assert main(["--ref", str(tmp_path / "data"), "--hyp", "."]) == 0
    assert "| perfect " in capsys.readouterr().out.replace("|perfect", "| perfect ")


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


@pytest.mark.skipif(PROGRAM is None, reason="sclite (Debian: sctk) is not installed")
def test_a_word_without_end_does_not_stop_scoring(tmp_path, caplog):
    """As a model writes that goes round in circles without spaces: sclite would print for ever."""
    folder(tmp_path)
    utt = "en-1"
    texts = read_scp(tmp_path / "tiny/text", empty=True) | {utt: f"well {'ha' * 600} yes"}
    write_scp(tmp_path / "tiny/text", texts)
    result = score(tmp_path / "data", tmp_path / "tiny", tmp_path / "a", PROGRAM)
    assert f"{utt} has a word on which sclite has no end" in caplog.text
    assert result["tool"].startswith("own")


def test_result_block(tmp_path):
    result = score(folder(tmp_path) / "data", tmp_path / "tiny", tmp_path / "out", None)
    block = tables({"tiny/test": result})
    head, wer = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|", block.split("### CER")[0]
    assert block.count(head) == 2 and wer.startswith("### WER")
    total = next(line for line in wer.splitlines() if line.startswith("|tiny/test|"))
    assert total.split("|")[2:4] == ["5", "28"]
    assert sum(line.startswith("|tiny/test/") for line in wer.splitlines()) == 3


def test_result_block_of_letters_and_words(tmp_path):
    """Said beside the sums, which add both up."""
    texts = {"a": ("zh", "我喜欢喝茶"), "b": ("en", "yes no")}
    folder(tmp_path, texts, {"a": "我喜欢喝茶", "b": "yes"})
    block = tables({"t": score(tmp_path / "data", tmp_path / "tiny", tmp_path / "out", None)})
    assert "|t|2|7|" in block
    said = "Wrd: words, in zh letters; the rows over all languages add both up."
    assert block.count(said) == 1 and said in block.split("### CER")[0]


def test_perfect_and_no_long_part(tmp_path):
    folder(tmp_path, {"x": ("en", "Yes, no.")}, {"x": "yes no"})
    result = score(tmp_path / "data", tmp_path / "tiny", tmp_path / "out", None)
    assert result["wer"] == {"en": 0.0, "mean": 0.0}
    assert result["wer_unnormalised"]["en"] == 100.0
    assert result["wer_long"] == {"en": None, "mean": None}


def test_long_is_counted_on_the_text_as_written(tmp_path):
    """15 characters as written, 13 once normalised: long; 14 as written: not."""
    ref = {"a": ("en", "One two three.."), "b": ("en", "One two three.")}
    result = score(folder(tmp_path, ref, {}) / "data", tmp_path / "tiny", tmp_path / "out", None)
    assert result["counts"]["en"]["long_utterances"] == 1
    assert result["counts"]["en"]["utterances"] == 2


SPELLED = {  # language, reference, hypothesis; then both as they are compared, by hand
    "hi-1": ("hi", "मैं आज स्कूल जा रहा हूँ", "मां आज स्कुल जी रही है"),
    "hi-2": ("hi", "नहीं।", "नही"),
    "tr-1": ("tr", "İyi günler", "iyi günler"),
    "tr-2": ("tr", "İstanbul", "istanbul"),
    "zh-1": ("zh", "我喜欢喝茶", "我喜欢喝茶。"),
    "zh-2": ("zh", "你好,世界", "您好 世界"),
    "th-1": ("th", "ที่นี่", "ที่นี"),
    "th-2": ("th", "น้ำ เย็น", "นํ้าเย็น"),
    "km-1": ("km", "ស្រី ស្រី", "ស្រីស្រា"),
}
BY_HAND = {
    "hi": ("मैं आज स्कूल जा रहा हूँ नहीं", "मां आज स्कुल जी रही है नही"),
    "tr": ("iyi günler istanbul", "iyi günler istanbul"),
    "zh": ("我 喜 欢 喝 茶 你 好 世 界", "我 喜 欢 喝 茶 您 好 世 界"),
    "th": ("ที่ นี่ น้ำ เ ย็ น", "ที่ นี น้ำ เ ย็ น"),
    "km": ("ស្រី ស្រី", "ស្រី ស្រា"),
}


@pytest.mark.parametrize("program", [None, PROGRAM] if PROGRAM else [None])
def test_every_language_is_scored_by_its_spelling(tmp_path, program):
    """Hindi 6/7: `BasicTextNormalizer` finds no error in it, and 80 % in the Turkish."""
    ref = {utt: (lang, text) for utt, (lang, text, _) in SPELLED.items()}
    path = folder(tmp_path, ref, {utt: text for utt, (_, _, text) in SPELLED.items()})
    result = score(path / "data", path / "tiny", path / "out", program)
    norm, split = BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)
    for lang, (one, other) in BY_HAND.items():
        assert result["wer"][lang] == pytest.approx(100 * jiwer.wer(one, other))
        sides = [text if lang in ("hi", "tr") else text.replace(" ", "") for text in (one, other)]
        # Between utterances there is a space here, but not in the rates.
        if lang in ("zh", "th", "km"):
            assert result["cer"][lang] == pytest.approx(100 * jiwer.cer(*sides))
        theirs = split if lang in ("zh", "th") else norm
        texts = [[theirs(x[side]) for x in SPELLED.values() if x[0] == lang] for side in (1, 2)]
        assert result["wer_openai"][lang] == pytest.approx(100 * jiwer.wer(*texts))
        row = result["table"]["wer"][lang]
        assert row["err"] == round(result["wer"][lang] * row["wrd"] / 100)
        assert row["wrd"] == result["counts"][lang]["ref_words"] == len(one.split())
        row = result["table"]["cer"][lang]
        assert row["err"] == round(result["cer"][lang] * row["wrd"] / 100)
    assert result["wer"]["hi"] == pytest.approx(600 / 7) and result["wer_openai"]["hi"] == 0
    assert result["wer"]["tr"] == 0 and result["wer_openai"]["tr"] == 80
    assert result["unit"] == dict.fromkeys(("hi", "tr"), "word") | dict.fromkeys(
        ("km", "th", "zh"), "letter"
    )
    assert result["wer"]["mean"] == pytest.approx(
        sum(100 * jiwer.wer(*sides) for sides in BY_HAND.values()) / 5
    )


def test_what_wer_counts_and_where_openai_whisper_differs_is_said(tmp_path, capsys):
    ref = {utt: (lang, text) for utt, (lang, text, _) in SPELLED.items()}
    call(folder(tmp_path, ref, {utt: text for utt, (_, _, text) in SPELLED.items()}))
    printed = capsys.readouterr().out
    assert "WER counts letters with their marks in km, th, zh," in printed
    assert "own normaliser, hi: WER 0.0 % instead of 85.7, CER 0.0 % instead of" in printed
    assert "own normaliser, tr: WER 80.0 % instead of 0.0" in printed
    assert "normaliser, zh" not in printed and "the same rates" not in printed


def test_unnormalised_rates_have_letters_for_words_too(tmp_path):
    """A sentence without spaces is no word that is wrong as a whole; a full stop is a letter."""
    ref = {"a": ("zh", "我喜欢喝茶。"), "b": ("tr", "İyi günler")}
    path = folder(tmp_path, ref, {"a": "我喜欢 喝茶", "b": "iyi günler"})
    result = score(path / "data", path / "tiny", path / "out", None)
    rates = result["wer_unnormalised"], result["cer_unnormalised"]
    assert rates[0]["zh"] == rates[1]["zh"] == pytest.approx(100 / 6)
    assert rates[0]["tr"] == 50  # case is kept


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
