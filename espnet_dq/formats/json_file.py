"""JSON files of others: one value for each key, no more than a file of its kind holds."""

from pathlib import Path

from espnet_dq import reading
from espnet_dq.errors import InputError, first_line, named

LARGEST = 16 << 20  # bytes; Hugging Face's own tokenizer of a Whisper has 4 million


def read(path: Path | str) -> object:
    """What a JSON file says.

    Raises:
        InputError: no such file, larger than `LARGEST`, or as `parse`.
    """
    return parse(content(path), path)


def content(path: Path | str) -> bytes:
    """All of a file; raises `InputError` as `read`."""
    return reading.read_limited(path, LARGEST)


def lines(path: Path | str) -> list[str]:
    """The lines of a text file, ended by newlines only; raises `InputError` as `read`."""
    try:
        text = content(path).decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not UTF-8") from e
    return text.removesuffix("\n").split("\n")


def parse(found: str | bytes, source: object) -> object:
    """As `loads`; what it raises names `source`."""
    with named(source):
        return loads(found)


def loads(found: str | bytes) -> object:
    """What JSON says; numbers in it are numbers, and no key stands twice in a table.

    Raises `InputError` when it is no such JSON.
    """
    try:
        text = found if isinstance(found, str) else found.decode("utf-8")
        return reading.loads(text, object_pairs_hook=_table, parse_constant=_constant)
    except ValueError as e:
        why = first_line(e)
        raise InputError(f"not JSON ({why})") from e


def _table(pairs: list[tuple[str, object]]) -> dict:
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{max(keys, key=keys.count)[:40]} is there twice")
    return table


def _constant(name: str):
    raise ValueError(f"{name} is no number")
