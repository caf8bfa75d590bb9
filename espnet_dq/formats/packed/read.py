"""Packed safetensors: any grid in as many bits as it has, integers and scales as training had them.

The layout is in docs/packed_format.md. It is for storage and for torch; the runtimes have
formats of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, named
from espnet_dq.formats import json_file, safetensors_file
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.any_window import ANY_WINDOW, read_any_window
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.generation import Generation, of_table
from espnet_dq.whisper.weights import KEPT, Weights, check_dims, is_token, with_kept

FORMAT = "espnet_dq.packed"
VERSION = "1"
CHUNK = 1 << 20  # values that are packed at a time, a multiple of 8


@dataclass(frozen=True)
class Content:
    """What a file holds: floats as stored, the rest on its grids."""

    dims: ModelDimensions
    floats: dict[str, Tensor]
    quantized: dict[str, Quantized]
    generation: Generation | None = None
    any_window: bool = False


def unpack(packed: Tensor, bits: int, shape: tuple[int, ...]) -> Tensor:
    """The inverse of `pack`: int8 of `shape`."""
    data, count = packed.numpy(), prod(shape)
    parts = []
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        chunk = data[start * bits // 8 : -(-(start + size) * bits // 8)]
        if bits == 8:
            values = chunk.astype(np.int16)
        else:
            each = np.unpackbits(chunk, count=size * bits, bitorder="little").reshape(size, bits)
            values = np.packbits(each, axis=1, bitorder="little")[:, 0].astype(np.int16)
        parts.append((values - 2 ** (bits - 1)).astype(np.int8))
    return torch.from_numpy(np.concatenate(parts)).reshape(shape)


def read(path: Path | str) -> Content:
    """Read a file; every size is checked against the dimensions before anything is unpacked.

    Raises:
        InputError: no safetensors file, not of this format, or a tensor that is missing, unknown,
            of the wrong type or size, or with an integer that is not on its grid.
    """
    path = Path(path)
    metadata, tensors = safetensors_file.read(path)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise InputError(f"{path}: not {FORMAT} version {VERSION}")
    dims = check_dims(_dims(metadata, path), str(path))
    if KEPT in tensors:
        dims = with_kept(dims, tensors.pop(KEPT), str(path), *_added(metadata, path))
    generation = None
    if "generation" in metadata:
        table = _json(metadata, "generation", path)
        generation = of_table(table, dims, f"{path}: metadata key generation")
    grids = _json(metadata, "grids", path)
    any_window = False
    if ANY_WINDOW in metadata:
        said = json_file.parse(metadata[ANY_WINDOW], f"{path}: metadata key {ANY_WINDOW}")
        any_window = read_any_window({ANY_WINDOW: said}, path)
    content = Content(dims, {}, {}, generation, any_window)
    shapes = weight_shapes(dims)
    for name, shape in shapes.items():
        if name in grids:
            content.quantized[name] = _quantized(tensors, name, grids.pop(name), shape, path)
        else:
            tensor = _take(tensors, name, path)
            if tensor.dtype not in (torch.float16, torch.float32) or tensor.shape != shape:
                raise InputError(f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}")
            content.floats[name] = tensor
    for left, what in ((grids, "a grid for"), (tensors, "an unknown tensor")):
        if left:
            raise InputError(f"{path}: {what} {min(left)[:80]}")
    return content


def load(path: Path | str) -> Weights:
    """Floats as stored, the rest dequantized to float32; raises `InputError` as `read`."""
    content = read(path)
    state = dict(content.floats)
    for name, q in content.quantized.items():
        state[name] = get_grid(q.grid).dequantize(q)
    found = Weights(content.dims, state, content.generation, content.any_window)
    return found.check(str(path))


def _quantized(
    tensors: dict[str, Tensor], name: str, grid_name, shape: tuple[int, ...], path: Path
) -> Quantized:
    if not isinstance(grid_name, str):
        raise InputError(f"{path}: the grid of {name} is not a name")
    with named(f"{path}: {name}"):
        grid = get_grid(grid_name)
    if len(shape) < 2:
        raise InputError(f"{path}: {name} is no matrix, but on grid {grid_name}")
    packed, scale = (_take(tensors, f"{name}.{part}", path) for part in ("integers", "scale"))
    size = -(-prod(shape) * grid.bits // 8)
    if packed.dtype != torch.uint8 or tuple(packed.shape) != (size,):
        raise InputError(f"{path}: {name}.integers is not {size} bytes")
    dtype, expected = grid.scale_like(shape)
    if scale.dtype != dtype or tuple(scale.shape) != expected or not scale.isfinite().all():
        raise InputError(f"{path}: {name}.scale is not {dtype} {expected}, all finite")
    integers = unpack(packed, grid.bits, shape)
    if int(integers.min()) < grid.bottom:
        raise InputError(f"{path}: {name} holds integers that are not on grid {grid_name}")
    return Quantized(grid_name, integers, scale)


def _take(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise InputError(f"{path}: {name} is missing")
    return tensors.pop(name)


def _json(metadata: Mapping[str, str], key: str, path: Path) -> dict:
    value = json_file.parse(metadata.get(key, ""), f"{path}: metadata key {key}")
    if not isinstance(value, dict):
        raise InputError(f"{path}: metadata key {key} is not a table")
    return value


def _added(metadata: Mapping[str, str], path: Path) -> tuple[list[str], list[str]]:
    """Added tokens, those of text and special ones."""
    if "added_tokens" not in metadata:
        return [], []
    table = _json(metadata, "added_tokens", path)
    lists = table.get("text"), table.get("special")
    if len(table) != 2 or not all(isinstance(v, list) and all(map(is_token, v)) for v in lists):
        raise InputError(f"{path}: metadata key added_tokens is not two lists, text and special")
    return lists


def _dims(metadata: Mapping[str, str], path: Path) -> ModelDimensions:
    values, names = _json(metadata, "dims", path), {f.name for f in fields(ModelDimensions)}
    if values.keys() != names:
        raise InputError(f"{path}: dims needs exactly the keys {', '.join(sorted(names))}")
    return ModelDimensions(**values)
