"""bin.report on a made-up experiment: results.json, RESULTS.md and report.html."""

import copy
import json
import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import jiwer
import pytest
import whisper

from espnet_dq.bin.report import main
from espnet_dq.errors import InputError
from espnet_dq.report import collect, html, markdown, tables
from espnet_dq.report.headline import facts, students
from espnet_dq.scoring.score import score
from tests.report import made_up

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """Collects what a browser would show or fetch; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.ids, self.tags, self.tables = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k.split(":")[-1] in ("src", "href", "srcset", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        """The first table whose head begins so, as {row name: {column: cell}}."""
        for first, *rows in self.tables:
            if first[: len(head)] == list(head):
                return {r[0]: dict(zip(first[1:], r[1:], strict=True)) for r in rows}
        raise AssertionError(f"no table {head}")


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    exp = made_up.build(tmp_path_factory.mktemp("report"))
    assert main(["--exp", str(exp)]) == 0
    return exp


@pytest.fixture
def page(exp):
    return Page((exp / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def read(exp):
    return collect.load(exp)


@pytest.fixture
def loaded(read):
    """What is read of the experiment, to be changed."""
    return copy.deepcopy(read)


@pytest.fixture(scope="module")
def results(exp):
    return json.loads((exp / "results.json").read_text(encoding="utf-8"))


def test_results_json(exp, results):
    assert {k: results[k] for k in ("corpus", "seed", "commit", "date")} == {
        "corpus": "asterisk",
        "seed": 42,
        "commit": "0123abc",
        "date": "2026-11-23",
    }
    assert results["parity"] == {"tensors": 76, "mismatched": 0}
    keys = "name role runtime grid bytes_on_disk paper_rule_bytes rtf peak_rss_bytes wer cer "
    wanted = set((keys + "utterances path data").split())
    for system, made in zip(results["systems"], made_up.SYSTEMS, strict=True):
        assert wanted <= system.keys()
        assert (system["name"], system["role"], system["runtime"], system["grid"]) == made[:4]
        assert system["bytes_on_disk"] == Path(system["path"]).stat().st_size
        score = json.loads((exp / "decode" / made[0] / "score" / "score.json").read_text())
        assert system["wer"] == score["wer"] and system["cer"] == score["cer"]
        assert set(system["wer"]) == {*made_up.SENTENCES, "mean"}
        assert system["utterances"] == 60
    by_name = {s["name"]: s for s in results["systems"]}
    # One run side by side where there was one, the decoding run elsewhere, and it says which.
    assert by_name["teacher-base"]["rtf"] == 0.110
    assert by_name["teacher-base"]["peak_rss_bytes"] == 620 * 10**6 + 1
    assert by_name["student-torch"]["rtf"] == pytest.approx(0.18)
    assert by_name["student-torch"]["measured"] == "decode"


def test_paper_rule_by_role(results):
    """16 bits a value for floats, 8 for the student's weights, on a model of 4 layers."""
    dims = whisper.ModelDimensions(*made_up.SMALL_DIMS["tiny"])
    state = whisper.model.Whisper(dims).state_dict()
    weights = sum(t.numel() for k, t in state.items() if k.endswith(".weight"))
    values = sum(t.numel() for t in state.values())
    by_name = {s["name"]: s["paper_rule_bytes"] for s in results["systems"]}
    assert by_name["untouched-tiny"] == by_name["float-student"] == 2 * values
    assert by_name["student-ct2_int8"] == 2 * values - weights


def test_html_fetches_nothing_and_is_whole(page):
    assert all(link.startswith("#") for link in page.links)
    values = " ".join(v or "" for _, attrs in page.tags for v in attrs.values())
    used = {link[1:] for link in page.links} | set(re.findall(r"url\(#([^)]*)\)", values))
    assert used <= set(page.ids) and len(used) > 10
    assert len(page.ids) == len(set(page.ids))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "foreignobject"}
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert any(a.get("name") == "viewport" for _, a in page.tags)


def test_html_names_no_other_place(exp):
    text = (exp / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|@import|url\((?!#)", text)


def test_pictures_have_words(page):
    pictures = [a for tag, a in page.tags if tag == "svg"]
    assert len(pictures) == 5  # languages, size, kd losses, kd matching, qat losses
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert set(attrs["aria-labelledby"].split()) <= set(page.ids)
    assert page.ids.count("match-kd-title") == 1 and "match-qat-title" not in page.ids


def test_waiting_for_data_is_said(exp):
    text = (exp / "report.html").read_text(encoding="utf-8")
    assert "waited for data in 4.0 % of the time of kd" in text


def test_every_number_equals_results_json(page, results):
    languages = ["mean", *sorted(made_up.SENTENCES)]
    wer = page.table("system", *languages)
    for s in results["systems"]:
        assert wer[s["name"]] == {k: f"{s['wer'][k]:.1f}" for k in languages}
        size = page.table("system", "grid")[s["name"]]
        assert size["on disk (MB)"] == f"{s['bytes_on_disk'] / 1e6:.1f}"
        assert size["paper rule (MiB)"] == f"{s['paper_rule_bytes'] / 2**20:.2f}"
        means = page.table("system", "WER")[s["name"]]
        assert means["CER unnormalised"] == f"{s['cer_unnormalised']['mean']:.1f}"
        assert means["WER openai"] == f"{s['wer_openai']['mean']:.1f}"
        assert means["WER long"] == f"{s['wer_long']['mean']:.1f}"
    speed = page.table("system", "RTF, median")
    assert speed["student-ct2_int8"]["RTF, median"] == "0.041"
    assert "student-torch" not in speed


def test_what_was_left_out_and_what_failed(exp, page):
    assert page.table("reason")["not speech <beep>"] == dict.fromkeys(made_up.SENTENCES, "7")
    assert page.table("utterance")["ru-003"]["reason"] == "audio is <empty> & broken"
    limits = page.table("system", "tokens at most")
    assert [*limits["student-ct2_int8"].values()] == ["444", "1", "1"]  # at most, in two, cut
    assert limits["untouched-tiny"]["cut"] == "0" and "student-torch" not in limits
    named = page.table("utterance", "system", "what")
    assert (named["<ru-002>"]["what"], named["it-001"]["what"]) == ("cut", "in two")
    guard = page.table("system", "tried again")
    assert [*guard["student-ct2_int8"].values()] == ["1", "1"] and "untouched-tiny" not in guard
    done = page.table("utterance", "system", "guard")
    assert (done["es-001"]["guard"], done["it-001"]["guard"]) == ("again", "cut")
    assert page.table("split")["test"]["left out"] == "2 longer than 30 s"
    raw = (exp / "report.html").read_text(encoding="utf-8")
    assert "<empty>" not in raw and "<beep>" not in raw and "<b>&'" not in raw
    assert "&lt;b&gt;&amp;" in raw


def test_results_md(exp, results):
    text = (exp / "RESULTS.md").read_text(encoding="utf-8")
    for line in ("# RESULTS", "## Environments", "## exp/asterisk_base_tiny_ct2_int8", "### WER"):
        assert f"{line}\n" in text
    for key, value in (("command", "./run.sh --tag '<b>&'"), ("config", "conf/train.yaml")):
        assert f"- {key}: `{value}`" in text
    for key in ("seed: `42`", "date: `2026-11-23`", "commit: `0123abc`", "data: `"):
        assert f"- {key}" in text
    assert text.count("|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|") == 2
    for s in results["systems"]:
        assert f"|{s['name']}/test|60|" in text and f"|{s['name']}/test/ru|12|" in text
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    head, *systems = rows[: 2 + len(results["systems"])]
    for s, row in zip(results["systems"], systems[1:], strict=True):
        cells = dict(zip(head, row, strict=True))
        assert (cells["system"], cells["grid"]) == (s["name"], s["grid"])
        for kind in ("wer", "cer"):
            for part in ("", "_openai", "_long", "_unnormalised"):
                column = kind.upper() + part.replace("_", " ")
                assert cells[column] == f"{s[kind + part]['mean']:.1f}"


def test_both_normalisers_and_what_wer_counts_are_said(tmp_path, exp):
    """Hindi, in which openai-whisper's finds no error, and Chinese, whose letters are words."""
    same = "openai-whisper's own normaliser gives the same rates in every language"
    for name in ("report.html", "RESULTS.md"):
        text = unescape((exp / name).read_text(encoding="utf-8"))
        assert same in text and "WER counts words in all languages" in text
    other, data = made_up.build(tmp_path, clips=1), tmp_path / "dump/test"
    with open(data / "text", "a") as text, open(data / "utt2lang", "a") as lang:
        text.write("hi-0 मैं आज स्कूल जा रहा हूँ\nzh-0 我喜欢喝茶\n")
        lang.write("hi-0 hi\nzh-0 zh\n")
    with open(data / "utt2num_samples", "a") as lengths:
        lengths.write("hi-0 48000\nzh-0 48000\n")
    for folder in sorted((other / "decode").iterdir()):
        with open(folder / "text", "a") as text:
            text.write("hi-0 मां आज स्कुल जी रही है\nzh-0 我喜欢喝茶。\n")
        score(data, folder, folder / "score", None)
    assert main(["--exp", str(other)]) == 0
    for system in json.loads((other / "results.json").read_text())["systems"]:
        assert system["wer"]["hi"] == pytest.approx(500 / 6) and system["wer_openai"]["hi"] == 0
        assert system["wer"]["zh"] == system["wer_openai"]["zh"] == 0
        assert system["unit"]["zh"] == "letter" and system["unit"]["hi"] == "word"
    page = Page((other / "report.html").read_text(encoding="utf-8"))
    row = page.table("system", "language")["student-ct2_int8"]
    assert row["language"] == "hi" and row["WER"] == "83.3" and row["WER openai"] == "0.0"
    for name in ("report.html", "RESULTS.md"):
        text = unescape((other / name).read_text(encoding="utf-8"))
        assert same not in text and "WER counts letters with their marks in zh," in text
    assert "|student-ct2_int8|hi|83.3|0.0|" in text


def test_headline(results):
    chosen = students(results)
    assert {r: s["name"] for r, s in chosen.items()} == {
        "student": "student-ct2_int8",
        "untouched": "untouched-tiny",
        "teacher": "teacher-base",
        "float_student": "float-student",
    }
    before, after = (chosen[r]["wer"]["mean"] for r in ("untouched", "student"))
    said = [f"{f.value} {f.meaning}" for f in facts(results)]
    change = f"mean WER {before:.1f} % → {after:.1f} % over 5 languages"
    assert said[0].startswith(f"No sure difference to untouched-tiny in word errors: {change}, 60 ")
    assert said[0].endswith("not distinguishable") and "95 % interval −" in said[0]
    assert "(14.3 %, not distinguishable)" in said[1]
    rows = [row | {"verdict": "fewer errors"} for row in results["differences"]]
    sure = facts(results | {"differences": rows})[0]
    assert sure.value == f"{100 * (1 - after / before):.1f} %" and sure.good
    assert sure.meaning.startswith(f"fewer word errors than untouched-tiny: {change}, 60 ")
    assert said[3].startswith("2.7× faster than teacher-base; 1.5× faster than untouched-tiny")
    assert said[4].startswith("0 values of the file's 76 tensors")


def system(name, role, runtime="faster-whisper", **changes):
    """One made-up system of results.json."""
    base = {
        "bytes_on_disk": 100,
        "rtf": 0.1,
        "measured": "benchmark",
        "wer": {"en": 20, "mean": 20},
        "unit": {"en": "word"},
    }
    return {"name": name, "role": role, "runtime": runtime} | base | changes


def test_headline_does_not_flatter():
    """Worse, larger and slower are said as such; equal is not called smaller."""
    student = system("s", "student", rtf=0.2, wer={"en": 25.0, "mean": 25.0})
    systems = [student, system("u", "untouched"), system("t", "teacher", bytes_on_disk=50)]
    said = [f"{f.value} {f.meaning}" for f in facts({"systems": systems, "parity": None})]
    assert said == [
        "25.0 % more word errors than u: WER 20.0 % → 25.0 %",
        "5.0 points of WER above t, its teacher (20.0 %)",
        "2.0× larger than t; 1.0× the size of u (on disk)",
        "2.0× slower than t; 2.0× slower than u (side by side in one run)",
    ]
    student["measured"] = "decode"
    said = [f.meaning for f in facts({"systems": systems, "parity": None})]
    assert not any("side by side" in s for s in said)
    assert facts({"systems": [systems[1]], "parity": None}) == []


def test_headline_of_equal_rates_is_neutral():
    systems = [system("s", "student"), system("u", "untouched"), system("t", "teacher")]
    found = facts({"systems": systems, "parity": None})[:2]
    said = "word errors as u: WER 20.0 % → 20.0 %"
    assert found[0] == ("As many", said, None)
    assert found[1] == ("0.0 points", "of WER from t, its teacher (20.0 %)", None)
    systems[0]["wer"] = {"en": 19.999, "mean": 19.999}  # shown alike
    assert facts({"systems": systems, "parity": None})[:2] == found


def test_headline_compares_no_means_over_other_languages():
    student = system("s", "student", wer={"en": 10, "mean": 10})
    more = {"wer": {"en": 10, "zh": 50, "mean": 30}, "unit": {"en": "word", "zh": "letter"}}
    systems = [student, system("u", "untouched", **more), system("t", "teacher", **more)]
    found = facts({"systems": systems, "parity": None})
    assert found[0] == ("Not compared", "in mean WER with u, t: scored in other languages", None)
    assert not any("errors" in f.meaning or "points" in f.value for f in found)
    systems[0] |= more
    assert facts({"systems": systems, "parity": None})[0].meaning.startswith("word and letter err")


def numbers(text):
    """The tables of Markdown: head -> rows, without the lines under the heads."""
    found, head = {}, None
    for line in text.splitlines():
        cells = tuple(line.strip("|").split("|")) if line.startswith("|") else None
        if cells is None:
            head = None
        elif head is None:
            head = cells
            found.setdefault(head, [])
        elif set(cells) != {"---"}:
            found[head].append(cells)
    return found


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


def test_whose_data(exp, results):
    """By run.json, and by the user's word instead."""
    assert results["data_name"] == "Asterisk's core sounds"
    assert results["data_licence"] == "CC-BY-SA-3.0"
    changed = collect.load(exp, "My voice", "all rights reserved")
    for text in (html.render(changed), markdown.render(changed)):
        assert "My voice" in text and "all rights reserved" in text
        assert "asterisk core" not in text.lower() and "CC-BY-SA" not in text
    assert changed.results["corpus"] == "asterisk"


def test_languages_that_the_teacher_does_not_hear(exp):
    assert collect.load(exp).doubts is None
    (exp / "doubts.json").write_text('{"fr": "of 10 clips <in> fr"}')
    try:
        loaded = collect.load(exp)
    finally:
        (exp / "doubts.json").unlink()
    assert "\n- warning: of 10 clips <in> fr\n" in markdown.render(loaded)
    assert "<p>Warning: of 10 clips &lt;in&gt; fr</p>" in html.render(loaded)


def test_no_path_of_the_machine(exp, loaded):
    """Options, files and failures that name folders; results.json keeps what is needed here."""
    loaded.run["command"] = (
        "run.sh --corpus kaldi --data_root '/home/ann lee/de' --teacher ~/ann/big.pt --expdir "
        "../ann/exp --local_data_opts '--train /home/ann/cuts.jsonl.gz --language de' "
        "--cmd=/home/ann/slurm.sh --upload_to me/toy"
    )
    loaded.run["config"] = "'/home/ann lee/my train.yaml' conf/qat.yaml"
    loaded.decodes["student-torch"]["failed"] = {"ru-003": "/home/ann lee/a b/ru.wav: no sound"}
    command = (
        "run.sh --corpus kaldi --data_root DIR --teacher big.pt --expdir DIR --local_data_opts "
        "'--train cuts.jsonl.gz --language de' --cmd=slurm.sh --upload_to me/toy"
    )
    page, text = html.render(loaded), markdown.render(loaded)
    assert command in unescape(page) and f"- command: `{command}`" in text
    for shown in (unescape(page), text):
        assert "'my train.yaml' conf/qat.yaml" in shown
        for word in ("ann", "/home", str(exp.parents[1]), str(Path.home())):
            assert not re.search(rf"(?<![a-z]){re.escape(word)}(?![a-z])", shown), word
    assert '<td class="text">ru.wav: no sound</td>' in page


def test_missing_parts_are_said(loaded):
    """Without logs, benchmark, verify and data reports the page says so and shows no number."""
    bare = loaded
    bare.logs, bare.verify, bare.benchmark = {}, None, None
    bare.data, bare.formatted, bare.heard = None, None, None
    bare.results |= {"parity": None, "benchmark": None}
    for system in bare.results["systems"]:
        system["insertions_per_minute"] = None
    text = html.render(bare)
    Page(text)
    assert "Side by side: not measured in this run." in text
    assert "<h2>Training</h2><p>Not measured in this run.</p>" in text
    assert "Not verified in this run." in text
    assert text.count("not recorded in this run") == 3
    assert "lengths of the audio are not recorded" in text
    assert "Inserted in a minute" not in markdown.render(bare)


def test_minutes_of_each_language(page):
    rows = page.table("language", "given")
    share = f"{100 / len(rows):.1f} %"
    assert rows["ru"] == {"given": "20.0", "in windows": "30.0", "share of what is heard": share}


def test_every_tensor_of_the_file(exp, page):
    rows = page.table("tensor", "shape")
    assert len(rows) == 76
    assert rows["w0"] == {
        "shape": "1000×1000", "what": "on a grid", "grid": "ct2_int8", "bits": "8",
        "bytes": "1000000", "error": "0.00625", "values": "0", "scales": "0",
    }  # fmt: skip
    assert rows["b36"]["error"] == "–" and rows["b36"]["what"] == "bias"
    kinds = page.table("what", "grid")
    assert kinds["bias"]["tensors"] == "37" and kinds["bias"]["MB"] == "0.33"
    assert kinds["on a grid"]["MB"] == "38.00"
    text = (exp / "report.html").read_text(encoding="utf-8")
    assert "Integers and scales take 38.00 MB, weights in float 0.34 MB; on disk 41.00 MB" in text
    assert "by the paper's rule 32.00 MiB" in unescape(text)
    assert "In float although it could be on a grid: &lt;conv&gt;." in text
    assert text.count("<details>") == 2


def test_mismatches_are_listed(loaded):
    loaded.verify["rows"][3] |= {"integers": 5, "scales": 1}
    tables = Page(html.render(loaded)).table("tensor")
    assert tables == {"w3": {"grid": "ct2_int8", "values": "5", "scales": "1"}}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run.json", lambda t: t[:-20], r"run.json:1: not JSON"),
        ("run.json", lambda t: t.replace('"seed"', '"sead"'), "run.json: no key 'seed'"),
        ("run.json", lambda t: t.replace('"untouched"', '"new"'), "role 'new' is none of"),
        ("run.json", lambda t: t.replace("student-torch", "teacher-base"), "comes twice"),
        ("run.json", lambda t: t.replace("tiny.pt", "gone.pt"), "gone.pt: no such file"),
        ("run.json", lambda t: t.replace("ct2_int8", "int1"), "int1"),
        ("decode/teacher-base/decode.json", lambda t: "[]", "not a JSON object"),
        ("decode/teacher-base/score/score.json", None, "score.json: no such file"),
        *(
            (
                "decode/teacher-base/score/score.json",
                lambda t, k=k: t.replace(f'"{k}": "', f'"{k}": "x'),
                rf"teacher-base/score/score.json: '{k}' is not that of .*untouched-tiny/score",
            )
            for k in ("normalizer", "normalizer_openai", "long", "rates", "tool")
        ),
        (
            "decode/teacher-base/score/score.json",
            lambda t: t.replace('"en": "word"', '"en": "letter"'),
            "'unit' is not that of",
        ),
        ("verify.json", lambda t: t.replace("mismatched", "x"), "no key 'mismatched'"),
        ("verify.json", lambda t: t.replace("float_bytes", "x"), "no key 'float_bytes'"),
        ("kd/train.log", lambda t: "", "no line of training"),
    ],
)
def test_bad_input_is_named(exp, name, change, said):
    path = exp / name
    before = path.read_text(encoding="utf-8")
    kept = (exp / "report.html").read_bytes()
    try:
        if change:
            path.write_text(change(before), encoding="utf-8")
        else:
            path.unlink()
        with pytest.raises(InputError, match=said):
            main(["--exp", str(exp)])
    finally:
        path.write_text(before, encoding="utf-8")
    assert (exp / "report.html").read_bytes() == kept


def test_same_input_same_files(exp):
    before = {n: (exp / n).read_bytes() for n in ("report.html", "RESULTS.md", "results.json")}
    main(["--exp", str(exp)])
    assert before == {n: (exp / n).read_bytes() for n in before}
