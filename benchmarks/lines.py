"""Lines of results: JSON, one for each measurement, added to those that a file has."""

import json
from datetime import date
from pathlib import Path

from espnet_dq.recipe.description import commit


class Lines:
    """A file of results."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Once: the file that is written may make the tree differ from its commit.
        self._commit = commit()

    def read(self) -> list[dict]:
        """Those that are there; none without the file."""
        if not self.path.is_file():
            return []
        with open(self.path, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def known(self, keys: tuple[str, ...]) -> set[tuple]:
        """What these keys are in each that is there."""
        return {tuple(line.get(key) for key in keys) for line in self.read()}

    def add(self, line: dict) -> dict:
        """Write one behind them, and return it, with the date and the commit that made it."""
        line = line | {"date": date.today().isoformat(), "commit": self._commit}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return line
