"""What is left out of a corpus, and why: named on the screen, counted, and listed on the disk.

`left_out.tsv` has a line for each utterance (or row of a corpus's own table), with the columns
`COLUMNS` and tabs between them; the utterance is `-` where a row has no id.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from espnet_dq.data.names import shown
from espnet_dq.errors import one_line
from espnet_dq.files import atomic

LEFT_OUT = "left_out.tsv"
SHOWN = 5  # lines on the screen for each cause and language


class Row(NamedTuple):
    """One that is left out."""

    utterance: str
    language: str  # Whisper's code, or the corpus's name of it
    cause: str
    where: str  # file and line, or what is wrong with which file


COLUMNS = Row._fields


@dataclass
class LeftOut:
    """All that are left out, in order.

    Example usage::

        left_out = LeftOut()
        left_out.add("ann-1", "en", "silence", "/corpus/1.wav")
        left_out.write(Path("data") / LEFT_OUT)
    """

    rows: list[Row] = field(default_factory=list)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)  # of (language, cause)

    def add(self, utterance: str, language: str, cause: str, where: object) -> None:
        """Take one more, and name it on the screen if it is one of the first of its kind."""
        utterance, language, where = shown(utterance), shown(language), shown(str(where))
        self.rows.append(Row(utterance, language, cause, where))
        self._counts[language, cause] += 1
        count = self._counts[language, cause]
        if count <= SHOWN:
            more = f" (more of these are only listed in {LEFT_OUT})" if count == SHOWN else ""
            tqdm.write(one_line(f"left out: {where}: {cause}{more}"))

    def by_language(self) -> dict[str, Counter[str]]:
        """Language -> cause -> count."""
        found: dict[str, Counter[str]] = {}
        for row in self.rows:
            found.setdefault(row.language, Counter())[row.cause] += 1
        return found

    def causes(self) -> Counter[str]:
        """Cause -> count."""
        return Counter(row.cause for row in self.rows)

    def write(self, path: Path) -> None:
        """Write the list, whole or not at all."""
        with (
            atomic(path) as tmp,
            open(tmp, "w", encoding="utf-8", newline="\n") as file,
        ):
            for row in (COLUMNS, *self.rows):
                print(*(re.sub(r"[\t\r\n]+", " ", value) for value in row), sep="\t", file=file)
