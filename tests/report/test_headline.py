"""What the first lines of a report say, also of the untouched models that were only rounded."""

import pytest

from espnet_dq.report.headline import facts, students


def system(name, wer, size):
    role = "student" if name == "student" else name
    return {
        "name": name, "role": role, "runtime": "faster-whisper", "grid": "ct2_int8",
        "wer": {"mean": wer, "de": wer}, "unit": {"de": "word"}, "bytes_on_disk": size,
        "rtf": 0.1, "measured": "decode",
    }  # fmt: skip


def difference(role, points, verdict):
    return {
        "system": "student", "against": role, "role": role, "rate": "wer", "lang": "mean",
        "points": points, "low": points - 2, "high": points + 2, "utterances": 60,
        "verdict": verdict,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("verdict", "before", "said"),
    [
        ("not distinguishable", 34.5, "Not distinguishable from untouched_rounded, which is only "
         "rounded and of the same size: WER 34.5 % → 33.7 %, "),
        ("fewer errors", 40.0, "6.3 points better than untouched_rounded, which is only rounded"),
        ("more errors", 30.0, "3.7 points worse than untouched_rounded, which is only rounded"),
    ],
)  # fmt: skip
def test_against_the_untouched_student_rounded(verdict, before, said):
    systems = [system("student", 33.7, 41), system("untouched_rounded", before, 41)]
    rows = [difference("untouched_rounded", 33.7 - before, verdict)]
    (found,) = [
        f"{f.value} {f.meaning}"
        for f in facts({"systems": systems, "parity": None, "differences": rows})
        if "untouched_rounded, which" in f.meaning
    ]
    assert found.startswith(said) and found.endswith(verdict)


def test_the_teacher_rounded_is_larger_and_sizes_compare_like_with_like():
    names = (("teacher", 21.8, 148), ("teacher_rounded", 21.6, 77), ("student", 33.7, 41))
    systems = [system(*each) for each in names]
    rows = [difference("teacher_rounded", 12.1, "more errors")]
    found = {f.value: f for f in facts({"systems": systems, "parity": None, "differences": rows})}
    worse = found["12.1 points"]
    assert worse.good is False
    assert worse.meaning.startswith(
        "worse than teacher_rounded, which is only rounded and 1.9 times as large: WER 21.6 %"
    )
    assert found["1.9×"].meaning.startswith(
        "smaller than teacher_rounded; 3.6× smaller than teacher"
    )


def test_whose_voices_stands_beside_the_number():
    systems = [system("student", 33.7, 41), system("untouched", 34.9, 78)]
    results = {"systems": systems, "parity": None, "voices": {"label": "seen voices", "said": "x"}}
    assert "WER 34.9 % → 33.7 %, seen voices" in facts(results)[0].meaning


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


def plain(name, role, runtime="faster-whisper", **changes):
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
    student = plain("s", "student", rtf=0.2, wer={"en": 25.0, "mean": 25.0})
    systems = [student, plain("u", "untouched"), plain("t", "teacher", bytes_on_disk=50)]
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
    systems = [plain("s", "student"), plain("u", "untouched"), plain("t", "teacher")]
    found = facts({"systems": systems, "parity": None})[:2]
    said = "word errors as u: WER 20.0 % → 20.0 %"
    assert found[0] == ("As many", said, None)
    assert found[1] == ("0.0 points", "of WER from t, its teacher (20.0 %)", None)
    systems[0]["wer"] = {"en": 19.999, "mean": 19.999}  # shown alike
    assert facts({"systems": systems, "parity": None})[:2] == found


def test_headline_compares_no_means_over_other_languages():
    student = plain("s", "student", wer={"en": 10, "mean": 10})
    more = {"wer": {"en": 10, "zh": 50, "mean": 30}, "unit": {"en": "word", "zh": "letter"}}
    systems = [student, plain("u", "untouched", **more), plain("t", "teacher", **more)]
    found = facts({"systems": systems, "parity": None})
    assert found[0] == ("Not compared", "in mean WER with u, t: scored in other languages", None)
    assert not any("errors" in f.meaning or "points" in f.value for f in found)
    systems[0] |= more
    assert facts({"systems": systems, "parity": None})[0].meaning.startswith("word and letter err")
