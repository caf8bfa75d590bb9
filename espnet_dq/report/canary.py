"""How the student does on what it did not train on, against the model that it started from."""

from collections.abc import Mapping
from pathlib import Path

from espnet_dq.data.audio import seconds
from espnet_dq.data.canary import NO_SPEECH
from espnet_dq.data.kaldi import KIND, SET, KaldiDir, read_scp
from espnet_dq.report.headline import Fact
from espnet_dq.scoring import transfer
from espnet_dq.scoring.score import MEAN

FIRST, STUDENT = "untouched", "student"  # systems of the recipe
TITLE = "Other people, other languages, noise"
NOT_MEASURED = (
    f"{TITLE}: not measured in this run (--canary). Rates of the test set say nothing of them."
)


def read(exp: Path) -> dict | None:
    """What results.json says of the canary, or None where none was decoded.

    `systems`: name -> `kinds`, see `transfer.compare`, and `words_a_minute`.
    """
    folder, decoded = exp / "data/canary", exp / "canary"
    names = [x.name for x in sorted(decoded.glob("*")) if (x / "decode.json").exists()]
    if FIRST not in names:
        return None
    canary = KaldiDir.load(folder, extra=[KIND, SET])
    heard = {name: transfer.heard(folder, decoded / name) for name in names}
    quiet = {
        u: seconds(canary.wav[u]) for u, kind in canary.extra[KIND].items() if kind == NO_SPEECH
    }
    return {
        "first": FIRST,
        "systems": {
            name: {
                "kinds": transfer.compare(canary, heard[name], heard[FIRST]),
                "words_a_minute": transfer.words_a_minute(
                    canary, read_scp(decoded / name / "text", empty=True), quiet
                ),
            }
            for name in names
        },
    }  # fmt: skip


def table(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a row for each system, and for each kind its ratio with its interval.

    First stands the test set's own rate, which for most trainings is of the voices that they heard.
    """
    canary, systems = results["canary"], {s["name"]: s for s in results["systems"]}
    kinds = [kind for kind in canary["systems"][FIRST]["kinds"]]
    test = (results["voices"] or {}).get("label", "voices not known")
    head = ["system", f"test set, {test}: WER (%)", *kinds, "words a minute, no speech"]
    rows = []
    for name in [s for s in systems if s in canary["systems"]]:
        found = canary["systems"][name]
        cells = [_ratio(found["kinds"][kind][MEAN]) for kind in kinds]
        said = found["words_a_minute"].get(MEAN)
        spoken = "–" if said is None else f"{said:.1f}"
        rows.append([name, f"{systems[name]['wer'][MEAN]:.1f}", *cells, spoken])
    return head, rows


def details(results: Mapping) -> tuple[list[str], list[list[str]]]:
    """Head and rows: of each kind, set and language the rates of all systems."""
    canary = results["canary"]["systems"]
    rows = []
    for kind, columns in canary[FIRST]["kinds"].items():
        for column, first in columns.items():
            if column != MEAN:
                by = first["by"]
                rates = [f"{canary[s]['kinds'][kind][column][by]:.1f}" for s in canary]
                size = [str(first["words"]), str(first["speakers"] or "not known")]
                rows.append([kind, column, by.upper(), *rates, *size])
    return ["what", "set and language", "rate (%)", *canary, "words", "speakers"], rows


def _ratio(item: Mapping) -> str:
    return f"{item['ratio']:.2f} ({item['low']:.2f} to {item['high']:.2f})"


CAPTION = (
    "Errors by those of untouched, the mean over sets and languages: 0.90 is a tenth fewer, with "
    "95 % intervals over speakers where six or more are known, else over windows. Windows of 30 s "
    "at most, decoded as the test set is"
)


def facts(results: Mapping) -> list[Fact]:
    """A headline for each kind: whether the student holds there."""
    canary = results.get("canary")
    if canary is None or STUDENT not in canary["systems"]:
        return []
    found = []
    for kind, columns in canary["systems"][STUDENT]["kinds"].items():
        mean = columns[MEAN]
        change = round(100 * (mean["ratio"] - 1))
        interval = f"ratio {_ratio(mean)}"
        if mean["low"] <= 1 <= mean["high"] or not change:
            found.append(Fact("No sure difference", f"to untouched in errors, {kind}: {interval}"))
        else:
            word = "fewer" if change < 0 else "more"
            said = f"{word} errors than untouched, {kind}: {interval}"
            found.append(Fact(f"{abs(change)} %", said, change < 0))
    return found
