"""Write the tables of `docs/reliability.md` anew from `results.jsonl`: what was tried, how often.

    .venv/bin/python -m benchmarks.faults.table

A line has `fault`, `stage` (its number, or several), `tries`, `ok` (how many of them), `command`,
`date`, `commit`, and `happened`, in words; those of a manifest's length have `utterances`, `name`
(what ran), `peak_mib` and `cpu_seconds`, too, and a table of their own.
"""

import json
from collections import Counter
from pathlib import Path

from benchmarks.faults.results import RESULTS
from espnet_dq.files import write_text
from espnet_dq.report.markdown import table

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
FAULTS = "<!-- faults, made by benchmarks.faults.table -->\n"
LENGTHS = "<!-- lengths, made by benchmarks.faults.table -->\n"
END = "<!-- end -->\n"


def faults(results: list[dict]) -> str:
    """A row for each fault and command, of all commits, in the order in which they first occur."""
    head = ["fault", "tries", "ok", "tries by stage", "what happened", "command", "commits"]
    rows = []
    for fault, command in dict.fromkeys((line["fault"], line["command"]) for line in results):
        of = [line for line in results if (line["fault"], line["command"]) == (fault, command)]
        stages: Counter[int | str] = Counter()
        for line in of:
            stages[line["stage"]] += line["tries"]
        by_stage = ", ".join(f"{stage}: {count}" for stage, count in sorted(stages.items()))
        tries, ok = (str(sum(line[name] for line in of)) for name in ("tries", "ok"))
        wrong = Counter(x for line in of for x in line.get("wrong") or ())
        happened = of[-1]["happened"]
        if wrong:
            happened += f"; wrong: {', '.join(f'{what} ({n})' for what, n in wrong.items())}"
        commits = ", ".join(f"`{x}`" for x in sorted({line["commit"] for line in of}))
        rows.append([fault, tries, ok, by_stage, happened, f"`{command}`", commits])
    return f"{table(head, rows)}\n"


def lengths(results: list[dict]) -> str:
    """A row for each command of the recipe, from the last measurement of each length."""
    last: dict[tuple[str, int], dict] = {}
    for line in results:
        name = f"{line['stage']} {line['name']}{', segments' * line['segments']}"
        last[name, line["utterances"]] = line
    names = sorted({name for name, _ in last})
    counts = sorted({count for _, count in last})
    head = [
        "stage",
        *(f"MiB, {n:,}" for n in counts),
        *(f"CPU s, {n:,}" for n in counts),
        "commits",
    ]
    rows = []
    for name in names:
        of = [last.get((name, count)) for count in counts]
        peaks = [f"{x['peak_mib']}{'' if x['ok'] else ': too much'}" if x else "" for x in of]
        seconds = [f"{x['cpu_seconds']:g}" if x else "" for x in of]
        commits = ", ".join(f"`{x}`" for x in sorted({x["commit"] for x in of if x}))
        rows.append([name, *peaks, *seconds, commits])
    return f"{table(head, rows)}\n"


def main() -> int:
    """Write the page; returns 0."""
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    page = PAGE.read_text(encoding="utf-8")
    measured = [line for line in results if "peak_mib" in line]
    tried = [line for line in results if "peak_mib" not in line]
    for mark, text in ((FAULTS, faults(tried)), (LENGTHS, lengths(measured))):
        head, rest = page.split(mark)
        page = f"{head}{mark}\n{text}\n{END}{rest.split(END, 1)[1]}"
    write_text(PAGE, page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
