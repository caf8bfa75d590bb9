"""The few numbers that come first: how much better, smaller and faster the student is."""

from collections.abc import Mapping
from typing import NamedTuple

from espnet_dq.report.roles import ROLES, ROUNDED
from espnet_dq.scoring import beside
from espnet_dq.scoring.bootstrap import CONFIDENCE, FEWER, SAME
from espnet_dq.scoring.score import MEAN, UNITS

SIZE = ("smaller than", "larger than", "the size of")
SPEED = ("faster than", "slower than", "the speed of")


class Fact(NamedTuple):
    """A headline number and what it means, in plain text; `good` is None of what is neither."""

    value: str
    meaning: str
    good: bool | None = None


def students(results: dict) -> dict[str, dict]:
    """The student as users run it, and what it is compared with, by role.

    The exported student is the first one that does not run in torch, else the first; the
    others are the ones in its runtime, else the first of their role. Roles without a system
    are left out.
    """
    chosen: dict[str, dict] = {}
    for role in sorted(ROLES, key=lambda role: role != "student"):  # that first
        systems = [s for s in results["systems"] if s["role"] == role]
        runtime = chosen["student"]["runtime"] if "student" in chosen else None
        fits = [s for s in systems if s["runtime"] == runtime or runtime is None]
        deployed = [s for s in fits if s["runtime"] != "torch"]
        for s in [*deployed, *fits, *systems][:1]:
            chosen[role] = s
    return chosen


def facts(results: dict) -> list[Fact]:
    """Better, smaller, faster and equal to training, each only if it was measured."""
    by_role = students(results)
    student = by_role.get("student")
    if student is None:
        return []
    # Means over other languages do not compare.
    alike = {r: s for r, s in by_role.items() if s["wer"].keys() == student["wer"].keys()}
    other = [s["name"] for role, s in by_role.items() if role not in alike]
    found = [
        _errors(student, alike.get("untouched"), results),
        *(_rounded(student, alike[role], results) for role in ROUNDED if role in alike),
        _gap(student, alike, results),
        Fact("Not compared", f"in mean WER with {', '.join(other)}: scored in other languages")
        if other
        else None,
        _ratio(SIZE, "on disk", "bytes_on_disk", student, by_role),
    ]
    timed = {r: s for r, s in by_role.items() if s["measured"] == "benchmark"}
    if "student" in timed:
        found.append(_ratio(SPEED, "side by side in one run", "rtf", student, timed))
    parity = results["parity"]
    if parity is not None:
        meaning = (
            f"values of the file's {parity['tensors']} tensors differ from the trained model's"
        )
        found.append(Fact(str(parity["mismatched"]), meaning, parity["mismatched"] == 0))
    return [fact for fact in found if fact] + canary_facts(results)


def canary_facts(results: Mapping) -> list[Fact]:
    """Whether the student holds, for each kind of a canary: other people, languages, noise."""
    systems = (results.get("canary") or {"systems": {}})["systems"]
    found = []
    for kind, columns in systems.get("student", {"kinds": {}})["kinds"].items():
        mean = columns[MEAN]
        if mean["ratio"] is None:
            continue
        change, said = round(100 * (mean["ratio"] - 1)), f"{kind}: ratio {ratio(mean)}"
        unbounded = mean["low"] is None or mean["high"] is None
        if unbounded or mean["low"] <= 1 <= mean["high"] or not change:
            found.append(Fact("No sure difference", f"to untouched in errors, {said}"))
        else:
            word = "fewer" if change < 0 else "more"
            meaning = f"{word} errors than untouched, {said}"
            found.append(Fact(f"{abs(change)} %", meaning, change < 0))
    return found


def ratio(item: Mapping) -> str:
    """A ratio of a canary and its interval, `0.90 (0.85 to 0.95)`; a dash where there is none."""
    shown, low, high = ("–" if item[key] is None else f"{item[key]:.2f}"
                        for key in ("ratio", "low", "high"))  # fmt: skip
    return shown if item["ratio"] is None else f"{shown} ({low} to {high})"


def mean_difference(results: Mapping, role: str) -> dict | None:
    """How sure the difference in mean WER to the system of a role is, if that was looked at."""
    for row in results.get("differences", []):
        if (row["role"], row["rate"], row["lang"]) == (role, "wer", MEAN):
            return row
    return None


def signed(points: float) -> str:
    """Percentage points with their sign, as `−1.4`."""
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")  # never −0.0


def sure(row: Mapping) -> str:
    """A difference in words, `−1.4 points (95 % interval −3.9 to +1.1): not distinguishable`."""
    points, low, high = (signed(row[key]) for key in ("points", "low", "high"))
    interval = f"{100 * CONFIDENCE:.0f} % interval {low} to {high}"
    return f"{points} points ({interval}): {row['verdict']}"


def _errors(student: dict, untouched: dict | None, results: dict) -> Fact | None:
    """Relative WER against the untouched model, unless the two cannot be told apart."""
    if untouched is None or not untouched["wer"][MEAN]:
        return None
    row, voices = mean_difference(results, "untouched"), results.get("voices")
    before, after = untouched["wer"][MEAN], student["wer"][MEAN]
    change = round(100 * (after - before) / before, 1)
    errors = f"{' and '.join(u for u in UNITS if u in student['unit'].values())} errors"
    languages = len(student["wer"]) - 1
    said = f"WER {before:.1f} % → {after:.1f} %"
    if languages > 1:
        said = f"mean {said} over {languages} languages"
    if voices:
        said += f", {voices['label']}"
    if row:
        said += f", {row['utterances']} utterances: {sure(row)}"
    if row and row["verdict"] == SAME:
        return Fact("No sure difference", f"to {untouched['name']} in {errors}: {said}")
    if not change:
        return Fact("As many", f"{errors} as {untouched['name']}: {said}")
    meaning = f"{'fewer' if change < 0 else 'more'} {errors} than {untouched['name']}: {said}"
    return Fact(f"{abs(change):.1f} %", meaning, _good(row))


def _rounded(student: dict, other: dict, results: dict) -> Fact:
    """Difference in WER to an untouched model that was only rounded: what takes no training."""
    before, after = other["wer"][MEAN], student["wer"][MEAN]
    gap, row = round(after - before, 1), mean_difference(results, other["role"])
    larger = f"{other['bytes_on_disk'] / student['bytes_on_disk']:.1f}"
    size = "of the same size" if larger == "1.0" else f"{larger} times as large"
    said = f"{other['name']}, which is only rounded and {size}: {beside.mean(student['wer'])}WER "
    said += f"{before:.1f} % → {after:.1f} %"
    if row:
        said += f", {sure(row)}"
    if row and row["verdict"] == SAME:
        return Fact("Not distinguishable", f"from {said}")
    if not gap:
        return Fact("As good", f"as {said}")
    return Fact(
        f"{abs(gap):.1f} points", f"{'better' if gap < 0 else 'worse'} than {said}", gap < 0
    )


def _gap(student: dict, by_role: dict, results: dict) -> Fact | None:
    """Difference in WER to the teacher and to the student before quantization."""
    parts = []
    for role, what in (("teacher", "its teacher"), ("float_student", "in float")):
        if role in by_role:
            before = by_role[role]["wer"][MEAN]
            gap = round(student["wer"][MEAN] - before, 1)
            where = "above" if gap > 0 else "below" if gap < 0 else "from"
            name, row = by_role[role]["name"], mean_difference(results, role)
            verdict = f", {row['verdict']}" if row else ""
            said = f"{where} {name}, {what} ({before:.1f} %{verdict})"
            parts.append((f"{abs(gap):.1f} points", said, _good(row)))
    if not parts:
        return None
    (first, meaning, good), *rest = parts
    said = "; ".join([f"of WER {meaning}", *(" ".join(part[:2]) for part in rest)])
    return Fact(first, said, good)


def _good(row: dict | None) -> bool | None:
    return None if row is None or row["verdict"] == SAME else row["verdict"] == FEWER


def _ratio(
    words: tuple[str, str, str], how: str, key: str, student: dict, by_role: dict
) -> Fact | None:
    """`1.9×`: how much less of `key` the student takes than the untouched models.

    Like with like first: those that are rounded to its grid, where they were scored.

    Args:
        words: what to call it when the student takes less, more, and as much.
    """
    parts = []
    roles = ("teacher_rounded", "untouched_rounded", "teacher", "untouched")
    for other in (by_role[r] for r in roles if r in by_role):
        if student[key] and other[key]:
            ratio = other[key] / student[key]
            times = f"{max(ratio, 1 / ratio):.1f}"
            word = words[2] if times == "1.0" else words[ratio < 1]
            good = None if word == words[2] else ratio > 1
            parts.append((f"{times}×", f"{word} {other['name']}", good))
    if not parts:
        return None
    (first, meaning, good), *rest = parts
    said = "; ".join([meaning, *(" ".join(part[:2]) for part in rest)])
    return Fact(first, f"{said} ({how})", good)
