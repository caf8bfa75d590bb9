"""Tables of corpora, and those that people write (CSV, TSV and JSON lines), row by row."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from espnet_dq.data import names
from espnet_dq.errors import InputError, one_line

NOT_UTF8 = "not UTF-8, or a NUL"
Cells = tuple[str, tuple[str, ...] | None]  # file and line, and the values there
_SEPARATORS = (",", ";", "\t")


def lines(path: Path) -> Iterator[tuple[str, str | None]]:
    """(file and line, text) of each line that is not empty; None in place of one not in UTF-8.

    A byte order mark and CR LF are accepted.

    Raises:
        InputError: No such file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with open(path, "rb") as f:
        progress = tqdm(f, desc=one_line(path.name), unit=" lines", delay=2.0, leave=False)
        for number, raw in enumerate(progress, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                line = None
            if line != "":
                yield f"{path}:{number}", line


def tabbed(path: Path) -> Iterator[Cells]:
    """(file and line, values) of each line of a table with tabs; None: the line is not UTF-8.

    Quotes mean nothing, as in the corpora's own tables.
    """
    for where, line in lines(path):
        yield where, None if line is None else tuple(line.split("\t"))


def rows(
    path: Path,
    columns: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    cells: Callable[[Path], Iterator[Cells]] = tabbed,
) -> Iterator[tuple[str, dict[str, str] | None]]:
    """(file and line, column -> value) of a table, row by row; behind the line, why it is broken.

    Args:
        path: The table.
        columns: Their names, of a table without a line of names.
        needed: Those that the line of names must have.
        cells: How the table is written.

    Returns:
        Rows; None in place of one that has another number of columns or is not UTF-8.

    Raises:
        InputError: No such file, or a column is not there, or twice.
    """
    for where, values in cells(path):
        if not columns:
            if values is None:
                raise InputError(f"{where}: the line of column names is not UTF-8")
            columns = values
            twice = [name for name in columns if name and columns.count(name) > 1]
            if twice:
                raise InputError(f"{where}: column '{twice[0]}' stands twice")
            missing = [name for name in needed if name not in columns]
            if missing:
                raise InputError(f"{where}: no column '{missing[0]}'")
        elif values is None:
            yield f"{where}: {NOT_UTF8}", None
        elif len(values) != len(columns):
            yield f"{where}: {len(values)} values in {len(columns)} columns", None
        else:
            yield where, dict(zip(columns, values, strict=True))
    if not columns:
        raise InputError(f"{path}: empty, without its line of column names")


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
