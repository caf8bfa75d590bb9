"""Rates, differences, mistakes and insertions: the same in every file of a report."""

import json
import re
from collections import Counter
from html import unescape
from pathlib import Path

import jiwer
import pytest

from espnet_dq.bin.report import main
from espnet_dq.data.kaldi import write_scp
from espnet_dq.report import canary, collect, examples, html, markdown, tables
from espnet_dq.scoring.utterances import Aligned
from tests.report import made_up
from tests.report.pages import Page, numbers


def test_differences_are_alike_everywhere(exp, page, results):
    """results.json, RESULTS.md and report.html: the same rows, by language and in the mean."""
    head = (
        "student minus",
        "rate",
        "language",
        "difference",
        "interval",
        "over",
        "utterances",
        "that differ",
    )
    head = (*head, "verdict")
    shown = numbers((exp / "RESULTS.md").read_text(encoding="utf-8"))[head]
    wanted = []
    for row in results["differences"]:
        points, low, high = (f"{row[k]:+.1f}" for k in ("points", "low", "high"))
        counts = (str(row["utterances"]), str(row["differing"]))
        cells = [row["against"], row["rate"].upper(), row["lang"], points, f"{low} to {high}"]
        wanted.append((*cells, row["over"], *counts, row["verdict"]))
    plain = [tuple(c.replace("−", "-").replace("+0.0", "-0.0") for c in row) for row in shown]
    assert plain == [tuple(c.replace("+0.0", "-0.0") for c in row) for row in wanted]
    assert len(wanted) == 3 * 2 * 6 and {row[0] for row in wanted} == {
        "untouched-tiny", "teacher-base", "float-student"
    }  # fmt: skip
    rows = [tuple(r) for table in page.tables if table[0] == list(head) for r in table[1:]]
    assert sorted(rows) == sorted(shown)
    by_name = {s["name"]: s for s in results["systems"]}
    for row in results["differences"]:  # the rates' own difference
        own, other = (by_name[row[k]][row["rate"]][row["lang"]] for k in ("system", "against"))
        assert row["points"] == pytest.approx(own - other)


def test_examples_are_alike_everywhere(exp, page, results):
    text = (exp / "RESULTS.md").read_text(encoding="utf-8")
    raw = (exp / "report.html").read_text(encoding="utf-8")
    examples = results["examples"]
    assert examples["system"] == "student-ct2_int8" and len(examples["utterances"]) == 10
    heard = (exp / "decode/student-ct2_int8/text").read_text(encoding="utf-8")
    for x in examples["utterances"]:
        some = f"{x['tokens']} word{'s' if x['tokens'] > 1 else ''}"
        title = f"{x['utt']} ({x['lang']}): {x['errors']} error{'s' * (x['errors'] > 1)} in {some}"
        assert title in text and title in raw
        words = [word for word in x["heard"] if word]
        assert f"\n{x['utt']} {' '.join(words)}" in "\n" + heard.lower().replace(".", "")
    aligned = (
        "REF:  por favor introduzca su contraseña seguida de la\n"
        "HYP:  por favor introduzc  su contraseñ  seguid  de la\n"
        "Eval:           S             S          S\n"
    )
    assert aligned in text
    assert '<span class="wrong"><b>introduzca</b><i>introduzc</i></span>' in raw
    rows = numbers(text)["reference", "heard", "language", "what", "times"]
    assert ("saisir", "saisi", "fr", "substituted", "4") in rows and len(rows) == 20
    assert rows == [tuple(row) for t in page.tables if t[0][0] == "reference" for row in t[1:]]
    assert {x["kind"] for x in examples["confusions"]} <= {"substituted", "deleted", "inserted"}
    # Counted anew: the made-up mistakes lose a word or its last letter; no two of these are one.
    trn = [exp / f"decode/student-ct2_int8/score/score_wer/{side}.trn" for side in ("ref", "hyp")]
    tokens, errors = [Counter(), Counter()], Counter()
    for ref, hyp in zip(*(path.read_text().splitlines() for path in trn), strict=True):
        (ref, name), (hyp, _) = (line.rsplit("(", 1) for line in (ref, hyp))
        for counts, side in zip(tokens, (ref, hyp), strict=True):
            counts.update((name[:2], word) for word in side.split())
        counted = jiwer.process_words(ref, hyp)
        errors[name[3:-1]] = counted.substitutions + counted.deletions + counted.insertions
    for said, wrong, lang, kind, times in rows:
        if kind == "substituted":
            assert said[:-1] == wrong and int(times) == tokens[1][lang, wrong]
        else:
            lost = tokens[0][lang, said] - tokens[1][lang, said] - tokens[1][lang, said[:-1]]
            assert kind == "deleted" and int(times) == lost
    for lang in made_up.SENTENCES:
        shown = [x["errors"] for x in examples["utterances"] if x["lang"] == lang]
        assert (
            shown == sorted((n for utt, n in errors.items() if utt[:2] == lang), reverse=True)[:2]
        )


@pytest.mark.slow
def test_letters_are_not_called_words_nor_added_up_unnamed(loaded):
    """Chinese beside the five languages; a system without it has a dash, not 0.00 insertions."""
    student, other, *_ = loaded.results["systems"]
    for s in loaded.results["systems"]:
        s["unit"] = s["unit"] | {"zh": "letter"}
        s["insertions_per_minute"] = s["insertions_per_minute"] | {"zh": 7.5}
    del other["insertions_per_minute"]["zh"]
    one = {"utt": "zh-0", "lang": "zh", "errors": 1, "tokens": 5, "unit": "letter"}
    loaded.results["examples"]["utterances"] = [
        one | {"said": list("我喜欢喝茶"), "heard": list("我喜欢和茶")}
    ]
    for scored in loaded.scores.values():
        scored["unit"] = scored["unit"] | {"zh": "letter"}
    page, text = html.render(loaded), markdown.render(loaded)
    caption = "Inserted in a minute of audio: words, in zh letters; all: both added up"
    for shown in (unescape(page), text):
        assert "zh-0 (zh): 1 error in 5 letters" in shown and caption in shown
        assert "Confused most in each language, by student-ct2_int8: words, in zh letters" in shown
    assert "Wrd: words, in zh letters; the rows over all languages add both up." in text
    rows = Page(page).table("system", "all")
    assert rows[student["name"]]["zh"] == "7.50" and rows[other["name"]]["zh"] == "–"
    assert f"|{other['name']}|" in text and text.count("|–|\n") == 1


@pytest.mark.slow
def test_a_decoding_that_was_killed_has_no_speed(loaded):
    """decode.json of what was resumed has `"rtf": null`."""
    loaded.decodes["teacher-base"]["rtf"] = None
    loaded.benchmark = None
    for s in loaded.results["systems"]:
        s["rtf"] = None if s["role"] == "teacher" else s["rtf"]
    assert Page(html.render(loaded)).table("system", "RTF")["teacher-base"]["RTF"] == "–"
    head, rows = next(x for x in numbers(markdown.render(loaded)).items() if "RTF" in x[0])
    cells = {row[0]: row[head.index("RTF")] for row in rows}
    assert cells["teacher-base"] == "–" and cells["student-torch"] == "0.180"


@pytest.mark.slow
def test_of_one_language_there_is_no_mean(tmp_path, monkeypatch):
    """Nor a sum: the numbers of the only language stand once. And what is rounded is called so."""
    more = [
        ("untouched_rounded", "untouched_rounded", "faster-whisper", "ct2_int8", 0.3, 0.04, 3),
        ("rounded_ggml_q5_0", "student_rounded", "whisper.cpp", "ggml_q5_0", 0.4, 0.05, 4),
    ]
    monkeypatch.setattr(made_up, "SYSTEMS", made_up.SYSTEMS + more)
    exp = made_up.build(tmp_path, languages=["ru"])
    assert main(["--exp", str(exp)]) == 0
    texts = [(exp / name).read_text(encoding="utf-8") for name in ("RESULTS.md", "report.html")]
    assert not any(re.search(r"\b[Mm]eans? (over|WER)|\bmean\b", text) for text in texts)
    page, rows = Page(texts[1]), numbers(texts[0])
    heads = [table[0] for table in page.tables] + [[*head] for head in rows]
    assert ["system", "ru"] in heads and not {"mean", "all"} & {cell for h in heads for cell in h}
    datasets = rows["dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err"]
    assert [row[0] for row in datasets] == 2 * [f"{s[0]}/test" for s in made_up.SYSTEMS]
    differences = [row[:3] for row in rows[tuple(tables.DIFFERENCES)]]
    assert len(differences) == len({*differences}) == 10  # five systems, WER and CER
    assert "The same by language" not in texts[1]
    assert page.table("system", "ru")["student-ct2_int8"].keys() == {"ru"}
    rates = {s["name"]: s["wer"]["ru"] for s in collect.load(exp).results["systems"]}
    said = "rounded_ggml_q5_0: the trained student rounded to ggml_q5_0, not trained on it. "
    said += f"WER {rates['rounded_ggml_q5_0']:.1f} %; the student's minus this: −"
    assert f"\n- {said}" in texts[0] and f"<p>{said}" in unescape(texts[1])


def test_what_failed_was_not_listened_to(tmp_path):
    """Its minutes are none in which nothing was inserted; nor are they silence of a canary."""
    one, other = (Aligned("u", lang, (("a", "a"), (None, "so"))) for lang in ("en", "fr"))
    aligned = {"a": one, "b": one, "c": other}
    write_scp(tmp_path / "utt2num_samples", dict.fromkeys(aligned, str(60 * 16000)))
    assert examples._insertions(aligned, tmp_path, []) == {"all": 1, "en": 1, "fr": 1}
    texts = aligned | {"b": Aligned("u", "en", (("a", None), ("b", None)))}
    assert examples._insertions(texts, tmp_path, ["b"]) == {"all": 1, "en": 1, "fr": 1}
    assert examples._insertions(texts, tmp_path, ["c"]) == {"all": 0.5, "en": 0.5}
    write_scp(tmp_path / "text", {"a": "so", "b": ""})
    (tmp_path / "decode.json").write_text(json.dumps({"failed": {"b": "no luck"}}))
    assert canary.heard_of(tmp_path) == {"a": "so"}


@pytest.mark.slow
def test_insertions_a_minute(exp):
    """Five words too many in one clip, of the eleven minutes that all together last."""
    folder = exp / "decode/student-ct2_int8"
    data = Path(json.loads((exp / "run.json").read_text())["data"])
    ref, own = (folder / f"score/score_wer/{side}.trn" for side in ("ref", "hyp"))
    before, lengths = own.read_text(), (data / "utt2num_samples").read_text()
    own.write_text("".join(
        line.replace(" (", " so so so so so (") if "(fr-fr-003)" in line else line
        for line in ref.read_text().splitlines(keepends=True)
    ))  # fmt: skip
    utts = [line.split()[0] for line in lengths.splitlines()]
    (data / "utt2num_samples").write_text("".join(f"{utt} {11 * 16000}\n" for utt in utts))
    try:
        changed = collect.load(exp)
    finally:
        own.write_text(before)
        (data / "utt2num_samples").write_text(lengths)
    results, text = changed.results, markdown.render(changed)
    page = Page(html.render(changed))
    rates = {s["name"]: s["insertions_per_minute"] for s in results["systems"]}
    assert rates["student-ct2_int8"]["all"] == pytest.approx(5 / 11)  # 60 clips of 11 s
    assert rates["student-ct2_int8"]["fr"] == pytest.approx(5 / (12 * 11 / 60))
    assert rates["student-ct2_int8"]["en"] == 0.0
    row = {"all": "0.45", "en": "0.00", "es": "0.00", "fr": "2.27", "it": "0.00", "ru": "0.00"}
    assert page.table("system", "all")["student-ct2_int8"] == row
    assert "|student-ct2_int8|0.45|0.00|0.00|2.27|0.00|0.00|" in text
    assert results["examples"]["utterances"][0]["utt"] == "fr-003"
    assert results["examples"]["utterances"][0]["said"][-5:] == [None] * 5
    assert "HYP:  veuillez saisir votre mot so so so so so\n" in text
    assert "Eval:                           I  I  I  I  I\n" in text
