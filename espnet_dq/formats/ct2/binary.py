"""The variables of CTranslate2's `model.bin`, read without CTranslate2 and without our writer.

NumPy only: what decodes in CTranslate2 alone should not pay for PyTorch's memory.

Layout, little-endian: uint32 binary version (6); string specification name; uint32 revision;
uint32 count, then per variable its name, uint8 rank, uint32 dimensions, uint8 type, uint32 byte
count and data; uint32 count of aliases, then pairs of names. A string is a uint16 length, which
counts a closing zero byte, and its bytes.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.formats.binary import Reader

BINARY_VERSION = 6
_DTYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "bfloat16")


@dataclass(frozen=True)
class Content:
    """All that a model.bin holds.

    Attributes:
        revision: of the specification.
        variables: name -> array, a read-only view of the mapped file; bfloat16 becomes float32.
        aliases: another name -> the variable that it stands for.
        bfloat16: names of the variables that are stored so.
    """

    revision: int
    variables: dict[str, np.ndarray]
    aliases: dict[str, str]
    bfloat16: frozenset[str]


def read_variables(path: Path | str) -> dict[str, np.ndarray]:
    """Name -> array of each variable in a model.bin, aliases resolved to the same array.

    Raises `InputError` as `read`.
    """
    content = read(path)
    variables = content.variables
    return variables | {alias: variables[name] for alias, name in content.aliases.items()}


def read(path: Path | str) -> Content:
    """All of a model.bin.

    Raises:
        InputError: no such file, another binary version or model kind, a truncated file, or a
            name that stands twice, of which a runtime might take the other one.
    """
    reader = Reader(path)
    version = reader.number("I", "binary version")
    if version != BINARY_VERSION:
        raise InputError(f"{path}: binary version {version}, only {BINARY_VERSION} is read")
    kind = _string(reader, "specification name")
    if kind != "WhisperSpec":
        raise InputError(f"{path}: holds a {kind!r}, expected WhisperSpec")
    revision = reader.number("I", "revision")
    variables: dict[str, np.ndarray] = {}
    bfloat16 = set()
    for _ in range(reader.number("I", "variable count")):
        name = _string(reader, "variable name")
        if name in variables:
            raise InputError(f"{path}: {name} is there twice")
        variables[name], dtype = _array(reader, name)
        if dtype == "bfloat16":
            bfloat16.add(name)
    aliases: dict[str, str] = {}
    for _ in range(reader.number("I", "alias count")):
        alias, name = _string(reader, "alias"), _string(reader, "alias target")
        if name not in variables or alias in variables:
            raise InputError(f"{path}: bad alias {alias} of {name}")
        if alias in aliases:
            raise InputError(f"{path}: alias {alias} is there twice")
        aliases[alias] = name
    if reader.left:
        raise InputError(f"{path}: {reader.left} bytes too many at its end")
    return Content(revision, variables, aliases, frozenset(bfloat16))


def _string(reader: Reader, what: str) -> str:
    text = reader.text(reader.number("H", f"length of {what}"), what)
    if not text.endswith("\0"):
        raise InputError(f"{reader.path}: {what} before byte {reader.offset} has no end")
    return text[:-1]


def _array(reader: Reader, name: str) -> tuple[np.ndarray, str]:
    """The next variable and the type that it is stored in."""
    rank = reader.number("B", f"rank of {name}")
    if rank > 4:
        raise InputError(f"{reader.path}: {name} has rank {rank}")
    shape = reader.unpack(f"{rank}I", f"dimensions of {name}")
    kind = reader.number("B", f"type of {name}")
    if kind >= len(_DTYPES):
        raise InputError(f"{reader.path}: {name} has unknown type {kind}")
    dtype = _DTYPES[kind]
    size = reader.number("I", f"byte count of {name}")
    width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    if size != math.prod(shape) * width:
        raise InputError(f"{reader.path}: {name}: {size} bytes for shape {shape} of {dtype}")
    raw = reader.view(size, name)
    if dtype == "bfloat16":  # the upper half of a float32
        values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        return values.reshape(shape), dtype
    return raw.view(dtype).reshape(shape), dtype
