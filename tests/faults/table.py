"""Write the tables of `docs/reliability.md` anew from `results.jsonl`: what was tried, how often.

    .venv/bin/python -m tests.faults.table

A line has `fault`, `stage` (its number, or several), `tries`, `ok` (how many of them), `command`,
`date`, `commit`, and `happened`, in words; those of a manifest's length have `utterances`, `name`
(what ran), `peak_mib` and `cpu_seconds`, too, and a table of their own.
"""

import json
from collections import Counter
from pathlib import Path

from espnet_dq.files import atomic
from espnet_dq.report.markdown import table
from tests.faults.results import RESULTS

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
FAULTS = "<!-- faults, made by tests.faults.table -->\n"
LENGTHS = "<!-- lengths, made by tests.faults.table -->\n"
END = "<!-- end -->\n"


def faults(results: list[dict]) -> str:
    """A row for each fault and command, in the order in which they first occur."""
    head = ["fault", "tries", "ok", "tries by stage", "what happened", "command"]
    rows = []
    for fault, command in dict.fromkeys((line["fault"], line["command"]) for line in results):
        of = [line for line in results if (line["fault"], line["command"]) == (fault, command)]
        stages: Counter[int | str] = Counter()
        for line in of:
            stages[line["stage"]] += line["tries"]
        by_stage = ", ".join(f"{stage}: {count}" for stage, count in sorted(stages.items()))
        tries, ok = (str(sum(line[name] for line in of)) for name in ("tries", "ok"))
        wrong = Counter(x for line in of for x in line.get("wrong") or ())
        happened = "; ".join(
            [of[-1]["happened"], *(f"{n} that were not ok: {what}" for what, n in wrong.items())]
        )
        cells = (fault, tries, ok, by_stage, happened, f"`{command}`")
        rows.append([cell.replace("|", "/") for cell in cells])
    return f"{table(head, rows)}\n\n{_when(results)}.\n"


def lengths(results: list[dict]) -> str:
    """A row for each command of the recipe, from the first measurement of each length."""
    first: dict[tuple[str, int], dict] = {}
    for line in results:
        if not line["segments"]:
            first.setdefault((f"{line['stage']} {line['name']}", line["utterances"]), line)
    names = sorted({name for name, _ in first})
    counts = sorted({count for _, count in first})
    head = ["stage", *(f"MiB, {n:,}" for n in counts), *(f"CPU s, {n:,}" for n in counts)]
    rows = [
        [name]
        + [
            f"{first[name, count][key]:g}" if (name, count) in first else ""
            for key in ("peak_mib", "cpu_seconds")
            for count in counts
        ]
        for name in names
    ]
    return f"{table(head, rows)}\n\n{_when(list(first.values()))}.\n"


def _when(results: list[dict]) -> str:
    commits = sorted({(line["date"], line["commit"]) for line in results})
    return "; ".join(f"{day}, commit `{commit}`" for day, commit in commits)


def main() -> int:
    """Write the page; returns 0."""
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    page = PAGE.read_text(encoding="utf-8")
    measured = [line for line in results if "peak_mib" in line]
    tried = [line for line in results if "peak_mib" not in line]
    for mark, text in ((FAULTS, faults(tried)), (LENGTHS, lengths(measured))):
        head, rest = page.split(mark)
        page = f"{head}{mark}\n{text}\n{END}{rest.split(END, 1)[1]}"
    with atomic(PAGE) as tmp:
        tmp.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
