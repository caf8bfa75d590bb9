"""Tables that people write: CSV, TSV and JSON lines, row by row."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

from espnet_dq.data import names
from espnet_dq.data.listing import NOT_UTF8, Cells, lines, rows, tabbed
from espnet_dq.errors import InputError

_SEPARATORS = (",", ";", "\t")


def separated(path: Path) -> Iterator[Cells]:
    """(file and line, values) of each row of a CSV file; None: the row is not UTF-8.

    Quoted values may hold separators and line ends. What stands between values is what the line of
    names has most columns by: a comma, a semicolon, as spreadsheets write it in many countries, or
    a tab; or what a first line `sep=;` says, which Excel reads.

    Raises:
        InputError: A quote that nothing ends, or what stands behind one.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as f:
        head, before = f.readline(), 0
        if said := re.fullmatch(r"sep=([,;\t])\s*", head):
            separator, before = said[1], 1
        else:
            separator = max(_SEPARATORS, key=lambda x: _columns(head, x))
            f.seek(0)
        options = {"delimiter": separator, "strict": True, "skipinitialspace": True}
        reader, line = csv.reader(f, **options), before + 1
        try:
            for values in reader:
                if any(map(str.strip, values)):  # spreadsheets write rows that look empty
                    broken = any(map(names.text_fault, values))
                    yield f"{path}:{line}", None if broken else tuple(values)
                line = before + reader.line_num + 1
        except csv.Error as e:
            raise InputError(f"{path}:{line}: {e}") from e


def _filled(path: Path) -> Iterator[Cells]:
    return (row for row in tabbed(path) if row[1] is None or any(map(str.strip, row[1])))


def _columns(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator), ()))
    except csv.Error:  # more in one value than the library takes: said where it is read
        return 0


def unquoted(value: str) -> str:
    """A value of a TSV file without the quotes of CSV, with which some programs write it.

    `"He said ""yes""."` is `He said "yes".`; quotes that are not doubled are the value's own.
    """
    inner = value[1:-1].replace('""', "")
    if value[:1] == value[-1:] == '"' and inner != value[1:-1] and '"' not in inner:
        return value[1:-1].replace('""', '"')
    return value


def objects(path: Path) -> Iterator[tuple[str, dict | None]]:
    """(file and line, JSON object) of each line; None, and why: there is none in it."""
    for where, line in lines(path):
        try:
            row, why = (None, NOT_UTF8) if line is None else (json.loads(line), "not an object")
        except (ValueError, RecursionError):
            row, why = None, "not a JSON object of one line"
        yield (where, row) if isinstance(row, dict) else (f"{where}: {why}", None)


def read(path: Path) -> Iterator[tuple[str, dict | None]]:
    """(file and line, column -> value) of each row; None, and why: a broken one.

    Raises:
        InputError: No such kind of file, or see `rows`.
    """
    kind = path.suffix.lower()
    if kind in (".jsonl", ".json"):
        return objects(path)
    if kind == ".tsv":
        return ((where, row and {k: unquoted(v) for k, v in row.items()})
                for where, row in rows(path, cells=_filled))  # fmt: skip
    if kind == ".csv":
        return rows(path, cells=separated)
    raise InputError(f"{path}: not .csv, .tsv or .jsonl")
