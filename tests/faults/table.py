"""Write the table of `docs/reliability.md` anew from `results.jsonl`: what was tried, how often.

    .venv/bin/python -m tests.faults.table

A line has `fault`, `stage` (a number, or what else it is), `tries`, `ok` (how many of them),
`command`, `date`, `commit`, and `happened`, in words.
"""

import json
from pathlib import Path

from espnet_dq.files import atomic
from tests.faults.__main__ import RESULTS

PAGE = Path(__file__).parents[2] / "docs/reliability.md"
BEGIN, END = "<!-- made by tests.faults.table -->\n", "<!-- end -->\n"


def render(results: list[dict]) -> str:
    """The table, faults in the order in which they first occur."""
    rows = [
        "| fault | tries | ok | tries by stage | what happened | command |",
        "|---|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(line["fault"] for line in results):
        of = [line for line in results if line["fault"] == fault]
        stages: dict[int | str, int] = {}
        for line in of:
            stages[line["stage"]] = stages.get(line["stage"], 0) + line["tries"]
        by_stage = ", ".join(
            f"{stage}: {stages[stage]}" for stage in sorted(stages, key=lambda s: (str(type(s)), s))
        )
        tries, ok = (sum(line[key] for line in of) for key in ("tries", "ok"))
        last = of[-1]
        rows.append(
            f"| {fault} | {tries} | {ok} | {by_stage} | {last['happened']} | `{last['command']}` |"
        )
    commits = sorted({(line["date"], line["commit"]) for line in results})
    when = "; ".join(f"{day}, commit `{commit}`" for day, commit in commits)
    return "\n".join(rows) + f"\n\n{when}.\n"


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
