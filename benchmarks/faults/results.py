"""Lines of results.jsonl: what was tried, how often, and what happened."""

import json
from datetime import date
from pathlib import Path

from espnet_dq.files import atomic
from espnet_dq.recipe.description import commit

RESULTS = Path(__file__).parent / "results.jsonl"


def result(
    fault: str, stage: int | str, tries: int, ok: int, command: str, happened: str, **more
) -> dict:
    """A line: `ok` of so many tries, in a stage of the recipe, and all else that is to be kept."""
    line = {"fault": fault, "stage": stage, "tries": tries, "ok": ok, "command": command}
    line |= {"happened": happened, **more}
    return line | {"date": date.today().isoformat(), "commit": commit()}


def put(path: Path, command: str, results: list[dict]) -> None:
    """Put lines in the place of those that an earlier run of the command has left.

    Earlier ones may have the programs' old place, `tests.faults`.
    """
    name = command.partition("faults")[2]
    old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [x for x in map(json.loads, old) if x["command"].partition("faults")[2] != name]
    with atomic(path) as tmp:
        lines = (json.dumps(x, ensure_ascii=False) + "\n" for x in (*kept, *results))
        tmp.write_text("".join(lines), encoding="utf-8")
