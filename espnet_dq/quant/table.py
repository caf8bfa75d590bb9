"""A grid for each weight, as a YAML file that a person can read and change.

::

    decoder.token_embedding.weight: uniform6_g32
    decoder.blocks.0.attn.query.weight: ct2_int8
    encoder.conv1.weight: none
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from espnet_dq.errors import InputError, named, shown
from espnet_dq.files import write_text
from espnet_dq.reading import read_yaml

SUFFIX = ".yaml"
_LARGEST = 1 << 20  # bytes; a line a weight is far below


def read_grid(grid: str) -> str | dict[str, str]:
    """What a `--grid` option says: the name of one grid, or the table in a `.yaml` file.

    Raises `InputError` when the file is none or no table of names to names.
    """
    if not grid.endswith(SUFFIX):
        return grid
    path = Path(grid)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST:
        raise InputError(f"{path}: larger than {_LARGEST} bytes, no table of grids")
    table = read_yaml(path)
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: not a table of weights and grids")
    for name, value in table.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InputError(f"{path}: {shown(name)}: {shown(value)} is not the name of a grid")
    return table


def of_file(grid: object) -> AbstractContextManager:
    """Names the file in an `InputError`, if a `--grid` option says one."""
    of_table = isinstance(grid, str) and grid.endswith(SUFFIX)
    return named(grid) if of_table else nullcontext()


def write_table(path: Path | str, grids: Mapping[str, str], comment: str) -> None:
    """Write a table, `comment` (lines) above it, whole or not at all."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"{name}: {grid}" for name, grid in grids.items()]
    write_text(path, "\n".join(lines) + "\n")
