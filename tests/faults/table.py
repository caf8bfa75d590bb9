"""Write the table of `docs/reliability.md` anew from `results.jsonl`: what was tried, how often.

    .venv/bin/python -m tests.faults.table

A line has `fault`, `stage` (its number), `tries`, `ok` (how many of them), `command`, `date`,
`commit`, and `happened`, in words.
"""

import json
from collections import Counter
from pathlib import Path

from espnet_dq.files import atomic
from tests.faults.results import RESULTS

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- made by tests.faults.table -->\n", "<!-- end -->\n"


def render(results: list[dict]) -> str:
    """The table, a row for each fault and command in the order in which they first occur."""
    head = ("fault", "tries", "ok", "tries by stage", "what happened", "command")
    rows = [head, ("---",) * len(head)]
    for key in dict.fromkeys((line["fault"], line["command"]) for line in results):
        of = [line for line in results if (line["fault"], line["command"]) == key]
        stages: Counter[int] = Counter()
        for line in of:
            stages[line["stage"]] += line["tries"]
        by_stage = ", ".join(f"{stage}: {count}" for stage, count in sorted(stages.items()))
        tries, ok = (str(sum(line[name] for line in of)) for name in ("tries", "ok"))
        rows.append((key[0], tries, ok, by_stage, of[-1]["happened"], f"`{key[1]}`"))
    commits = sorted({(line["date"], line["commit"]) for line in results})
    when = "; ".join(f"{day}, commit `{commit}`" for day, commit in commits)
    table = "\n".join(f"| {' | '.join(x.replace('|', '/') for x in row)} |" for row in rows)
    return f"{table}\n\n{when}.\n"


def main() -> int:
    """Write the page; returns 0."""
    results = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    head, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    tail = rest.split(END)[1]
    with atomic(PAGE) as tmp:
        tmp.write_text(head + BEGIN + "\n" + render(results) + "\n" + END + tail, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
