"""What the first lines of a report say of the untouched models that were only rounded."""

import pytest

from espnet_dq.report.headline import facts


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
