"""Tables that people write: CSV, TSV and JSON lines, row by row."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from espnet_dq.data import names
from espnet_dq.data.listing import NOT_UTF8, Cells, lines, rows
from espnet_dq.errors import InputError


def separated(path: Path) -> Iterator[Cells]:
    """(file and line, values) of each row of a CSV file; None: the row is not UTF-8.

    Quoted values may hold separators and line ends. If the first line has semicolons and no comma,
    as spreadsheets write it in many countries, they are the separators.

    Raises:
        InputError: A quote that nothing ends, or what stands behind one.
    """
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as f:
        head = f.readline()
        f.seek(0)
        separator = ";" if ";" in head and "," not in head else ","
        options = {"delimiter": separator, "strict": True, "skipinitialspace": True}
        reader, line = csv.reader(f, **options), 1
        try:
            for values in reader:
                if values:
                    broken = any(map(names.text_fault, values))
                    yield f"{path}:{line}", None if broken else tuple(values)
                line = reader.line_num + 1
        except csv.Error as e:
            raise InputError(f"{path}:{line}: {e}") from e


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
        return rows(path)
    if kind == ".csv":
        return rows(path, cells=separated)
    raise InputError(f"{path}: not .csv, .tsv or .jsonl")
