"""bin.report on a made-up experiment: results.json, RESULTS.md and report.html."""

import json
import re
from html import unescape
from pathlib import Path

import pytest
import whisper

from espnet_dq.bin.report import main
from espnet_dq.errors import InputError
from espnet_dq.report import collect, html, markdown, plots, tables
from espnet_dq.scoring.score import score
from tests.report import made_up
from tests.report.pages import Page


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


def test_each_system_of_a_picture_looks_otherwise():
    """Seven are usual; with `--also` there are more, and colours and markers come again."""
    rates = {"en": 10.0, "mean": 10.0}
    systems = [{"name": f"s{n}", "wer": rates, "bytes_on_disk": 10**6} for n in range(15)]
    svg = plots.error_against_size({"systems": systems})
    *_, legend = re.split(r'<g id="size-legend', svg)
    looks = re.findall(r'<use href="#size-(\w+)"', legend)  # an id of marker and colour
    assert len(looks) == len(set(looks)) == 15


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
    assert speed["student-ct2_int8"]["first word (s)"] == "0.41"
    assert "student-torch" not in speed


def test_what_was_left_out_and_what_failed(exp, page):
    assert page.table("reason")["not speech <beep>"] == dict.fromkeys(made_up.SENTENCES, "7")
    assert page.table("utterance")["ru-003"]["reason"] == "audio is <empty> & broken"
    limits = page.table("system", "tokens at most")
    assert [*limits["student-ct2_int8"].values()] == ["444", "1", "1"]  # at most, in two, cut
    assert limits["untouched-tiny"]["cut"] == limits["student-torch"]["cut"] == "0"
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_whose_data(exp, results):
    """By run.json, and by the user's word instead."""
    assert results["data_name"] == "Asterisk's core sounds"
    assert results["data_licence"] == "CC-BY-SA-3.0"
    changed = collect.load(exp, "My voice", "all rights reserved")
    for text in (html.render(changed), markdown.render(changed)):
        assert "My voice" in text and "all rights reserved" in text
        assert "asterisk core" not in text.lower() and "CC-BY-SA" not in text
    assert changed.results["corpus"] == "asterisk"


@pytest.mark.slow
def test_languages_that_the_teacher_does_not_hear(exp):
    assert collect.load(exp).doubts is None
    (exp / "doubts.json").write_text('{"fr": "of 10 clips <in> fr"}')
    try:
        loaded = collect.load(exp)
    finally:
        (exp / "doubts.json").unlink()
    assert "\n- warning: of 10 clips <in> fr\n" in markdown.render(loaded)
    assert "<p>Warning: of 10 clips &lt;in&gt; fr</p>" in html.render(loaded)


@pytest.mark.slow
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


@pytest.mark.slow
def test_speed_says_how_it_was_decoded(loaded):
    for text in (unescape(html.render(loaded)), markdown.render(loaded)):
        assert tables.SPEED in text


@pytest.mark.slow
def test_mismatches_are_listed(loaded):
    loaded.verify["rows"][3] |= {"integers": 5, "scales": 1}
    tables = Page(html.render(loaded)).table("tensor")
    assert tables == {"w3": {"grid": "ct2_int8", "values": "5", "scales": "1"}}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("run.json", lambda t: t[:-20], r"run.json:1: not JSON"),
        ("run.json", lambda t: t.replace('"seed"', '"sead"'), "run.json: no key 'seed'"),
        *(
            (name, lambda t, k=k: t.replace(f'"{k}"', '"x"'), rf"{name}: no key '{k}'")
            for name, keys in (
                ("run.json", "sources teacher config data_report grids preset"),
                ("decode/student-torch/decode.json", "token_limit options"),
                ("decode/student-torch/score/score.json", "normalizer tool missing"),
                ("benchmark.json", "rounds audio_seconds first_word_seconds"),
            )
            for k in keys.split()
        ),
        ("run.json", lambda t: t.replace('"untouched"', '"new"'), "role 'new' is none of"),
        ("run.json", lambda t: t.replace("student-torch", "teacher-base"), "'teacher-base' st"),
        ("run.json", lambda t: json.dumps(json.loads(t) | {"systems": 5}), "key 'systems' is not"),
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
            for k in ("normalizer", "normalizer_openai", "long", "rates")
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


@pytest.mark.slow
def test_same_input_same_files(exp):
    before = {n: (exp / n).read_bytes() for n in ("report.html", "RESULTS.md", "results.json")}
    main(["--exp", str(exp)])
    assert before == {n: (exp / n).read_bytes() for n in before}
