"""RESULTS.md: each number with the command, config, seed, data, date and commit behind it."""

from collections.abc import Sequence
from pathlib import Path

from espnet_dq.report import course, origin, tables
from espnet_dq.report.collect import Experiment
from espnet_dq.report.size import MIB
from espnet_dq.scoring import beside
from espnet_dq.scoring import results as espnet
from espnet_dq.scoring.utterances import lines


def render(exp: Experiment) -> str:
    """ESPnet's result block, preceded by the sizes and speeds of the same systems."""
    run, results = exp.run, exp.results
    name = exp.path.resolve().name
    known = {
        "command": origin.command(run["command"]),
        "config": origin.command(run["config"]),
        "seed": run["seed"],
        "data": f"{results['data_name']}, {origin.part(run)}",
        "licence of the data": results["data_licence"],
        "date": run["date"],
        "commit": run["commit"],
    }
    datasets = {
        f"{s['name']}/{Path(s['data']).name}": exp.scores[s["name"]] for s in results["systems"]
    }
    lines = [
        espnet.environments(run["date"], run["commit"]),
        f"## exp/{name}",
        *(f"- {key}: `{value}`" for key, value in known.items()),
        *([f"- voices: {results['voices']['said']}"] if results["voices"] else []),
        f"- {tables.compared(exp)}",
        f"- {tables.means_caption(exp)}.",
        f"- {beside.units(tables.units(results))}",
        _parity(results["parity"]),
        *(f"- warning: {said}" for said in (exp.doubts or {}).values()),
        *(f"- {name}: {said}" for name, said in course.told(exp.plan, exp.logs).items()),
        *(f"- {line}" for line in tables.rounded_systems(results)),
        "",
        *_systems(results),
        "",
        *_canary(results),
        "",
        *_merged(results),
        *_openai(results),
        "",
        *_sure(results),
        espnet.tables(datasets),
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
    head = ["system", "role", "runtime", "grid", *tables.MEANS[1:]]
    head += ["on disk (MB)", "paper rule (MiB)", "RTF", "peak memory (MB)", "RTF and memory from"]
    rows = []
    for s, (name, *means) in zip(results["systems"], tables.means(results), strict=True):
        cells = [name, s["role"], s["runtime"], s["grid"], *means]
        cells += [f"{s['bytes_on_disk'] / 1e6:.1f}", f"{s['paper_rule_bytes'] / MIB:.2f}"]
        cells += [tables.number(s["rtf"], 3), f"{s['peak_rss_bytes'] / 1e6:.0f}", s["measured"]]
        rows.append(cells)
    return [table(head, rows), "", tables.SPEED]


def _canary(results: dict) -> list[str]:
    """How the systems do on what was not trained on."""
    if results["canary"] is None:
        return [tables.NO_CANARY]
    told = [f"### {tables.CANARY}", "", f"{tables.CANARY_CAPTION}.", ""]
    return [*told, table(*tables.canary(results)), "", table(*tables.canary_details(results))]


def _merged(results: dict) -> list[str]:
    """Which share of kd was taken, of those that were tried."""
    if not results["merge"]:
        return []
    head, rows, share = tables.merged(results)
    said = [f"### Merged: {share} of kd", "", f"{tables.MERGED_CAPTION}.", ""]
    return [*said, table(head, rows), ""]


def _openai(results: dict) -> list[str]:
    """Where openai-whisper's own normaliser gives other rates."""
    rows = tables.both_normalisers(results)
    return (
        ["### Where both normalisers differ", "", table(beside.HEAD, rows)]
        if rows
        else [f"{beside.SAME}."]
    )


def _sure(results: dict) -> list[str]:
    """How sure the student's differences to the others are."""
    rows = tables.difference_rows(results)
    if not rows:
        return []
    said = tables.difference_caption(results)
    return ["### Differences", "", f"{said}.", "", table(tables.DIFFERENCES, rows), ""]


def _examples(results: dict) -> list[str]:
    """What all systems insert, and the student's errors: in which utterances, of which words."""
    parts = []
    head, rows = tables.insertions(results)
    if rows:
        parts += [f"### {tables.insertions_caption(results)}", "", table(head, rows), ""]
    found = results["examples"]
    if found is None:
        return parts
    most, confused = tables.examples_captions(results)
    parts += [f"### {most}", ""]
    if found["utterances"]:
        said = "As scored (normalised). `*`: nothing; S, D, I: substituted, deleted, inserted."
        parts += [said, ""]
    for x in found["utterances"]:
        said, heard, wrong = lines(zip(x["said"], x["heard"], strict=True))
        parts += ["```", tables.title(x), f"REF:  {said}", f"HYP:  {heard}", f"Eval: {wrong}"]
        parts += ["```", ""]
    rows = tables.confused_rows(found)
    parts += [f"### {confused}", "", table(tables.CONFUSED, rows), ""]
    return parts


def table(head: Sequence[str], rows: Sequence[Sequence]) -> str:
    """A table of Markdown, one line a row."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"|{'|'.join(str(c).replace('|', chr(92) + '|') for c in x)}|" for x in lines)
