"""RESULTS.md: each number with the command, config, seed, data, date and commit behind it."""

from collections.abc import Sequence
from pathlib import Path

from espnet_dq.report import origin
from espnet_dq.report.collect import RATES, Experiment
from espnet_dq.report.examples import (
    CONFUSED,
    DIFFERENCES,
    confused_rows,
    difference_caption,
    difference_rows,
    insertions,
    title,
)
from espnet_dq.report.html import percent
from espnet_dq.report.size import MIB
from espnet_dq.scoring import beside
from espnet_dq.scoring.results import environments, tables
from espnet_dq.scoring.score import MEAN
from espnet_dq.scoring.utterances import lines


def render(exp: Experiment) -> str:
    """ESPnet's result block, preceded by the sizes and speeds of the same systems."""
    run, results = exp.run, exp.results
    name = exp.path.resolve().name
    known = {
        "command": origin.command(run["command"]),
        "config": origin.command(run.get("config", "not recorded")),
        "seed": run["seed"],
        "data": f"{results['data_name']}, {origin.part(run)}",
        "licence of the data": results["data_licence"],
        "date": run["date"],
        "commit": run["commit"],
    }
    datasets = {
        f"{s['name']}/{Path(s['data']).name}": exp.scores[s["name"]] for s in results["systems"]
    }
    score = next(iter(exp.scores.values()))
    lines = [
        environments(run["date"], run["commit"]),
        f"## exp/{name}",
        *(f"- {key}: `{value}`" for key, value in known.items()),
        f"- text compared {score.get('normalizer', 'not recorded')}; rates: "
        f"{score.get('rates', 'jiwer')}; tables of counts: {score.get('tool')}",
        f"- WER and CER: means over languages in percent; {beside.OPENAI} "
        f"({score.get('normalizer_openai')}); long: {score.get('long', 'long texts')}; "
        "unnormalised: text as written, with its case, punctuation and numbers",
        f"- {beside.units(score)}",
        _parity(results["parity"]),
        "",
        *_systems(results),
        "",
        *_openai(results),
        "",
        *_sure(results),
        tables(datasets),
        *_examples(results),
    ]
    return "\n".join(lines)


def _parity(parity: dict | None) -> str:
    if parity is None:
        return "- exported file against trained model: not verified in this run"
    return (
        f"- exported file against trained model: {parity['mismatched']} mismatched values in "
        f"{parity['tensors']} tensors"
    )


def _systems(results: dict) -> list[str]:
    """A row per system: error rates, sizes, speed, memory."""
    head = ["system", "role", "runtime", "grid"]
    head += [f"{rate[:3].upper()}{rate[3:].replace('_', ' ')}" for rate in RATES]
    head += ["on disk (MB)", "paper rule (MiB)", "RTF", "peak memory (MB)", "RTF and memory from"]
    rows = []
    for s in results["systems"]:
        cells = [s["name"], s["role"], s["runtime"], s["grid"]]
        cells += [percent(s[rate][MEAN]) for rate in RATES]
        cells += [f"{s['bytes_on_disk'] / 1e6:.1f}", f"{s['paper_rule_bytes'] / MIB:.2f}"]
        cells += [f"{s['rtf']:.3f}", f"{s['peak_rss_bytes'] / 1e6:.0f}", s["measured"]]
        rows.append(cells)
    return [table(head, rows)]


def _openai(results: dict) -> list[str]:
    """Where openai-whisper's own normaliser gives other rates."""
    rows = [row for s in results["systems"] for row in beside.differing(s["name"], s)]
    return (
        ["### Where both normalisers differ", "", table(beside.HEAD, rows)]
        if rows
        else [f"{beside.SAME}."]
    )


def _sure(results: dict) -> list[str]:
    """How sure the student's differences to the others are."""
    rows = difference_rows(results)
    if not rows:
        return []
    said = difference_caption(results)
    return ["### Differences", "", f"{said}.", "", table(DIFFERENCES, rows), ""]


def _examples(results: dict) -> list[str]:
    """What all systems insert, and the student's errors: in which utterances, of which words."""
    parts = []
    head, rows = insertions(results)
    if rows:
        parts += ["### Words inserted a minute of audio", "", table(head, rows), ""]
    found = results["examples"]
    if found is None:
        return parts
    parts += [f"### Utterances with most errors, of {found['system']}", ""]
    if found["utterances"]:
        parts += ["As scored (normalised); errors in capitals, `*` where one side has nothing.", ""]
    for x in found["utterances"]:
        said, heard = lines(zip(x["said"], x["heard"], strict=True))
        parts += ["```", title(x), f"REF: {said}", f"HYP: {heard}", "```", ""]
    confused = table(CONFUSED, confused_rows(found))
    parts += [f"### Words that are confused most, of {found['system']}", "", confused, ""]
    return parts


def table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table of Markdown, one line a row."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"|{'|'.join(str(c).replace('|', chr(92) + '|') for c in x)}|" for x in lines)
