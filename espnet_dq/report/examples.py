"""What the rates do not show: which errors there are, and how sure the differences between systems.

All of it is of results.json, so that every report says the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError
from espnet_dq.report.headline import signed, students
from espnet_dq.scoring import bootstrap
from espnet_dq.scoring.utterances import Aligned, closest, confusions, most_errors, read_aligned

UTTERANCES, WORDS = 10, 20  # examples shown
DIFFERENCES = (
    "student minus",
    "rate",
    "language",
    "difference",
    "interval",
    "utterances",
    "that differ",
    "verdict",
)
CONFUSED = ("reference", "heard", "language", "what", "times")
ALL = "all"  # of insertions: over all languages


def add(results: dict, scored: Mapping[str, Path]) -> dict:
    """`results` with `differences`, `bootstrap`, `examples`, and each system's insertions a minute.

    Args:
        results: of results.json, with its `systems`.
        scored: system -> its score folder.

    Raises:
        InputError: a file of a score folder is missing or broken.
    """
    words = {name: read_aligned(folder / "score_wer") for name, folder in scored.items()}
    chosen = students(results)
    student = chosen.pop("student", None)
    systems = [
        s | {"insertions_per_minute": _insertions(words[s["name"]], Path(s["data"]))}
        for s in results["systems"]
    ]
    found = []
    if student:
        others = {role: other["name"] for role, other in chosen.items()}
        found = list(_differences(student["name"], others, "wer", words))
        names = (student["name"], *others.values())
        chars = {name: read_aligned(scored[name] / "score_cer", chars=True) for name in names}
        found += _differences(student["name"], others, "cer", chars)
    settings = {"draws": bootstrap.DRAWS, "seed": bootstrap.SEED}
    return results | {
        "systems": systems,
        "bootstrap": settings | {"confidence": bootstrap.CONFIDENCE},
        "differences": found,
        "examples": _examples(student["name"], words[student["name"]]) if student else None,
    }


def _differences(
    student: str, others: Mapping[str, str], rate: str, aligned: Mapping[str, dict[str, Aligned]]
) -> Iterator[dict]:
    for role, other in others.items():
        between = bootstrap.differences(aligned[student], aligned[other])
        for lang, difference in between.items():
            key = {"system": student, "against": other, "role": role, "rate": rate, "lang": lang}
            yield key | asdict(difference) | {"verdict": difference.verdict}


def _insertions(aligned: Mapping[str, Aligned], data: Path) -> dict[str, float] | None:
    """Inserted words a minute of audio, by language and of `ALL`; None: lengths are not known."""
    path = data / "utt2num_samples"
    if not path.is_file():
        return None
    samples = read_scp(path)
    for utt in aligned:
        if utt not in samples:
            raise InputError(f"{path}: no line for '{utt}'")
    counts: dict[str, list[float]] = {ALL: [0, 0.0]}
    for utt, each in aligned.items():
        inserted = sum(said is None for said, _ in each.columns)
        for key in (ALL, each.lang):
            count = counts.setdefault(key, [0, 0.0])
            count[0] += inserted
            count[1] += int(samples[utt]) / SAMPLE_RATE / 60
    return {key: inserted / minutes for key, (inserted, minutes) in counts.items()}


def _examples(system: str, aligned: Mapping[str, Aligned]) -> dict:
    aligned = {utt: closest(x) if x.errors else x for utt, x in aligned.items()}
    utterances = [
        {"utt": x.utt, "lang": x.lang, "errors": x.errors, "tokens": x.tokens}
        | {"said": [said for said, _ in x.columns], "heard": [heard for _, heard in x.columns]}
        for x in most_errors(aligned, UTTERANCES)
    ]
    return {"system": system, "utterances": utterances, "confusions": confusions(aligned, WORDS)}


def difference_caption(results: dict) -> str:
    """What the table of differences shows, and what it does not speak for."""
    used = results["bootstrap"]
    return (
        "The student minus each other system, in percentage points, with the "
        f"{100 * used['confidence']:.0f} % interval of a paired bootstrap over utterances "
        f"({used['draws']} draws, seed {used['seed']}). It speaks for more utterances like these, "
        "not for other voices, nor for a training with another seed"
    )


def difference_rows(results: dict) -> list[list[str]]:
    """Rows of the table of differences, its head being `DIFFERENCES`."""
    rows = []
    for d in results["differences"]:
        interval = f"{signed(d['low'])} to {signed(d['high'])}"
        name = [d["against"], d["rate"].upper(), d["lang"]]
        counts = [str(d["utterances"]), str(d["differing"])]
        rows.append([*name, signed(d["points"]), interval, *counts, d["verdict"]])
    return rows


def insertions(results: dict) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of words inserted a minute; no rows if no length is known."""
    systems = [s for s in results["systems"] if s["insertions_per_minute"]]
    langs = sorted({k for s in systems for k in s["insertions_per_minute"]} - {ALL})
    rows = [
        [s["name"], *(f"{s['insertions_per_minute'].get(k, 0):.2f}" for k in (ALL, *langs))]
        for s in systems
    ]
    return ["system", ALL, *langs], rows


def title(utterance: dict) -> str:
    """An example's name and its errors."""
    errors = f"{utterance['errors']} error{'s' if utterance['errors'] > 1 else ''}"
    return f"{utterance['utt']} ({utterance['lang']}): {errors} in {utterance['tokens']} words"


def confused_rows(examples: dict) -> list[list[str]]:
    """Rows of the table of confused words, its head being `CONFUSED`."""
    return [
        [x["said"] or "–", x["heard"] or "–", x["lang"], x["kind"], str(x["times"])]
        for x in examples["confusions"]
    ]
