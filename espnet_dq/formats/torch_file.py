"""Files of `torch.save`, of whoever wrote them: numbers, words and plain tensors, or one line.

torch takes more than it writes: compressed members of any size, storages longer than their
members, tensors that repeat one number for ever, sparse and nested ones, storages made by the
pickle itself. So the archive's directory is read here first, in the one way in which it can be
read; the pickle may name nothing but plain tensors; torch then maps the file, so that no storage
reaches beyond it; and what is taken of it is no larger than the file.
"""

import os
import pickletools
import struct
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from espnet_dq.errors import InputError, first_line
from espnet_dq.formats.torch_archive import MAGIC, read_pickle
from espnet_dq.reading import file_size
from espnet_dq.whisper.weights import shown

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
_NAMES = {
    "collections OrderedDict",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}


def read(path: Path | str) -> object:
    """What was saved; tensors in it are views of the mapped file, not yet looked at.

    Raises:
        InputError: there is no such file, it is no archive of `torch.save`, damaged, or holds
            anything else than numbers, words, lists, tables and plain tensors.
    """
    path = Path(path)
    size = file_size(path)
    with open(path, "rb") as f:
        if f.read(4) != MAGIC:
            raise InputError(f"{path}: not a torch checkpoint (no archive of torch.save)")
        try:
            _check_pickle(read_pickle(f, size))
        except (struct.error, OSError) as e:
            raise InputError(f"{path}: damaged or truncated ({e})") from e
        except ValueError as e:
            raise InputError(f"{path}: {e}") from e
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is read here all the same
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnicodeEncodeError as e:
        raise InputError(f"{path}: torch opens no file whose path is not UTF-8: rename it") from e
    except Exception as e:  # damaged pickles make torch raise whatever its opcodes stumble on
        # What torch says of a pickle is how to run what is in it.
        advice = isinstance(e, UnpicklingError) or "weights_only" in str(e)
        said = "its pickle" if advice else first_line(e)
        raise InputError(f"{path}: damaged or truncated ({said})") from e
    _make_plain(found)
    return found


def _make_plain(found: object) -> None:
    """Take away what a pickle has put in the place of the methods of its ordered tables.

    `state_dict()` of a module leaves its `_metadata` there, and nothing else has a place.
    """
    left, seen = [found], set()
    while left:
        value = left.pop()
        if id(value) in seen or not isinstance(value, dict | list | tuple):
            continue
        seen.add(id(value))
        if isinstance(value, OrderedDict):
            vars(value).clear()
        left += dict.values(value) if isinstance(value, dict) else value


def tensors(found: Mapping, path: Path | str) -> dict[str, Tensor]:
    """Copies in memory of the tensors in a table that `read` returned, by their names.

    Raises:
        InputError: a name is no name, a value is no plain tensor of the file's own numbers, or all
            of them take more memory than the file has bytes.
    """
    taken, left = {}, os.path.getsize(path)
    for name, tensor in found.items():
        if type(name) is not str:
            raise InputError(f"{path}: {shown(name)} is not the name of a tensor")
        if not isinstance(tensor, Tensor):
            raise InputError(f"{path}: {name[:80]} is not a tensor")
        tensor = tensor.detach()
        if odd := _odd(tensor):
            raise InputError(f"{path}: {name[:80]} is {odd}, expected a plain tensor")
        size = tensor.numel() * tensor.element_size()
        left -= size
        if size > tensor.untyped_storage().nbytes() or left < 0:
            raise InputError(f"{path}: {name[:80]} is larger than what the file holds of it")
        taken[name] = tensor.clone(memory_format=torch.contiguous_format)
    return taken


def _odd(tensor: Tensor) -> str | None:
    """What makes a tensor another than a block of numbers in memory, if anything does."""
    if type(tensor) is not Tensor:
        return f"a {type(tensor).__name__}"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.device.type != "cpu":
        return f"on {tensor.device.type}"
    if tensor.is_quantized or tensor.is_complex():
        return str(tensor.dtype)
    return "a view of another" if tensor.is_conj() or tensor.is_neg() else None


def _check_pickle(content: bytes) -> None:
    """Raise `ValueError` for a pickle that names anything beyond plain tensors."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and argument not in _NAMES:
            raise ValueError(f"not a checkpoint of plain tensors, but of {argument[:80]!r}")
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"not a torch checkpoint (its pickle has {opcode.name})")
