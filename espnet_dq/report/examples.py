"""What the rates do not show: which errors there are, and how sure the differences between systems.

All of it is of results.json, so that every report says the same.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from math import ceil
from pathlib import Path

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError
from espnet_dq.report import rounded
from espnet_dq.report.headline import students
from espnet_dq.scoring import bootstrap
from espnet_dq.scoring.table import ALL
from espnet_dq.scoring.utterances import Aligned, closest, confusions, most_errors, read_aligned

UTTERANCES, CONFUSIONS = 10, 20  # examples, of all languages together; at least one of each


def add(results: dict, scored: Mapping[str, Path], failed: Mapping[str, Collection[str]]) -> dict:
    """`results` with `differences`, `bootstrap`, `examples`, and each system's insertions a minute.

    Args:
        results: of results.json, with its `systems`.
        scored: system -> its score folder.
        failed: system -> utterances that it did not decode, of which no minute counts.

    Raises:
        InputError: a file of a score folder is missing or broken.
    """
    words = {name: read_aligned(folder / "score_wer") for name, folder in scored.items()}
    chosen = students(results)
    student = chosen.pop("student", None)
    systems = [
        s | {"insertions_per_minute": _insertions(words[name], Path(s["data"]), failed[name])}
        for s in results["systems"]
        for name in (s["name"],)
    ]
    found = []
    if student:
        others = [(role, other["name"]) for role, other in chosen.items()]
        others += [(s["role"], s["name"]) for s in results["systems"] if s["role"] == rounded.ROLE]
        speakers = _table(Path(student["data"]) / "utt2spk", words[student["name"]])
        found = list(_differences(student["name"], others, "wer", words, speakers))
        names = (student["name"], *(name for _, name in others))
        chars = {name: read_aligned(scored[name] / "score_cer", chars=True) for name in names}
        found += _differences(student["name"], others, "cer", chars, speakers)
    settings = {"draws": bootstrap.DRAWS, "seed": bootstrap.SEED}
    return results | {
        "systems": systems,
        "bootstrap": settings | {"confidence": bootstrap.CONFIDENCE},
        "differences": found,
        "examples": _examples(student, words[student["name"]]) if student else None,
    }


def _differences(
    student: str,
    others: Iterable[tuple[str, str]],
    rate: str,
    aligned: Mapping[str, dict[str, Aligned]],
    speakers: Mapping[str, str] | None,
) -> Iterator[dict]:
    for role, other in others:
        between = bootstrap.differences(aligned[student], aligned[other], speakers)
        for lang, difference in between.items():
            key = {"system": student, "against": other, "role": role, "rate": rate, "lang": lang}
            yield key | asdict(difference) | {"verdict": difference.verdict}


def _table(path: Path, scored: Mapping[str, Aligned]) -> dict[str, str] | None:
    """A table of the data that has all scored utterances; None: there is none."""
    if not path.is_file():
        return None
    table = read_scp(path)
    for utt in scored:
        if utt not in table:
            raise InputError(f"{path}: no line for '{utt}'")
    return table


def _insertions(
    aligned: Mapping[str, Aligned], data: Path, failed: Collection[str]
) -> dict[str, float] | None:
    """Insertions a minute of audio that was decoded, by language and of `ALL`.

    None: lengths are not known. A language of which nothing was decoded is not there.
    """
    samples = _table(data / "utt2num_samples", aligned)
    if samples is None:
        return None
    counts: dict[str, list[float]] = {}
    for utt, each in aligned.items():
        if utt in failed:
            continue
        inserted = sum(said is None for said, _ in each.columns)
        for key in (ALL, each.lang):
            count = counts.setdefault(key, [0, 0.0])
            count[0] += inserted
            count[1] += int(samples[utt]) / SAMPLE_RATE / 60
    return {key: inserted / minutes for key, (inserted, minutes) in counts.items()}


def _examples(system: Mapping, aligned: Mapping[str, Aligned]) -> dict:
    aligned = {utt: closest(x) if x.errors else x for utt, x in aligned.items()}
    languages, unit = len({x.lang for x in aligned.values()}), system["unit"]
    utterances = [
        {"utt": x.utt, "lang": x.lang, "errors": x.errors, "tokens": x.tokens, "unit": unit[x.lang]}
        | {"said": [said for said, _ in x.columns], "heard": [heard for _, heard in x.columns]}
        for x in most_errors(aligned, ceil(UTTERANCES / languages))
    ]
    confused = confusions(aligned, ceil(CONFUSIONS / languages))
    return {"system": system["name"], "utterances": utterances, "confusions": confused}
