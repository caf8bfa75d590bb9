"""Is what a packed file holds what training's forward pass used? Counted, bit by bit.

The reader here follows docs/packed_format.md and shares no code with `quant/` or this format's own,
but for grids that the page does not name: what their values are, only they can say.
"""

import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espnet_dq.errors import WorkError
from espnet_dq.formats import json_file, safetensors_file
from espnet_dq.formats.companions import same
from espnet_dq.formats.report import (
    BESIDE,
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    as_numpy,
    differing_bits,
    differing_values,
    float_row,
    float_types,
    rounding_error,
)
from espnet_dq.quant.grids import GRIDS, Quantized
from espnet_dq.whisper.vocabulary import OwnVocabulary, added_tokens, numbers

_DOCUMENTED = re.compile(r"ct2_int8|ggml_q(?:[458]_0|[45]_1|[2-6]_K)|onnx_int8|uniform\d.*")
_MORE = {True: "unknown", False: "missing"}


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of the file: values and scales, bit for bit.

    Raises:
        InputError: no readable packed file.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    metadata, stored = safetensors_file.read(path)
    tensors = {name: as_numpy(values) for name, values in stored.items()}
    own = {"added_tokens": _added(reference), "generation": _generation(reference)}
    own["any_window"] = reference.any_window or None
    own = {key: value for key, value in own.items() if value is not None}
    if odd := sorted(metadata.keys() ^ {"format", "version", "dims", "grids", *own}):
        odd = odd[0]
        raise WorkError(f"{path}: metadata key {odd} is {_MORE[odd in metadata]}")
    if (metadata["format"], metadata["version"]) != ("espnet_dq.packed", "1"):
        raise WorkError(f"{path}: not espnet_dq.packed version 1")
    dims, grids = (json_file.parse(metadata[key], path) for key in ("dims", "grids"))
    if not same(dims, numbers(reference.dims)) or not isinstance(grids, dict):
        raise WorkError(f"{path}: holds {dims}, expected {reference.dims}")
    trimmed = isinstance(reference.dims, OwnVocabulary)
    wanted = {"kept_tokens"} if trimmed else set()
    for name in reference.weights:
        wanted |= {f"{name}.integers", f"{name}.scale"} if name in grids else {name}
    if odd := sorted((wanted ^ tensors.keys()) | (grids.keys() - reference.weights.keys())):
        raise WorkError(f"{path}: {odd[0]} is {_MORE[odd[0] in tensors or odd[0] in grids]}")
    rows = [
        _grid_row(path, name, grids[name], tensors, reference)
        if name in grids
        else float_row(name, tensors[name], _values_of(weight), reference)
        for name, weight in reference.weights.items()
    ]
    if trimmed:
        rows.append(_kept_row(tensors["kept_tokens"], np.array(reference.dims.kept)))
    for key, expected in own.items():
        found = json_file.parse(metadata[key], path)
        rows.append(Row(key, (), "text", 8, 0, BESIDE, integers=not same(found, expected)))
    floats = {n: str(tensors[n].dtype) for n in reference.weights if n not in grids}
    return Report([*rows, float_types(floats)])


def _grid_row(
    path: Path, name: str, grid: str, tensors: dict[str, np.ndarray], reference: Reference
) -> Row:
    """The row of a weight that the file holds on `grid`."""
    expected, scale = _values_of(reference.weights[name]), tensors[f"{name}.scale"]
    if grid != reference.grids.get(name):  # maybe of a name that is none
        count, note = expected.size, f"not on grid {reference.grids.get(name, 'none')}"
        return Row(name, expected.shape, str(grid), 0, 0, ON_GRID, integers=count,
                   scales=scale.size, note=note)  # fmt: skip
    packed, bits = tensors[f"{name}.integers"], _bits(grid)
    row = Row(name, expected.shape, grid, bits, packed.nbytes + scale.nbytes, ON_GRID)
    if packed.size != -(-expected.size * bits // 8):
        row.integers, row.scales = expected.size, scale.size
        return row
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise WorkError(f"{path}: {name}.integers is {packed.dtype} of rank {packed.ndim}")
    values = _values(packed, bits, scale, grid, expected.shape)
    theirs = reference.scales[name].detach().cpu().numpy()
    if theirs.shape == scale.shape and theirs.dtype == scale.dtype:
        row.scales = differing_bits(scale, theirs)
    else:
        row.scales = scale.size
    row.integers = differing_values(values, expected)
    row.error = rounding_error({name: values}, reference.floats)
    return row


def _kept_row(kept: np.ndarray, expected: np.ndarray) -> Row:
    """The row of the tokens that a trimmed vocabulary keeps."""
    same_shape = kept.shape == expected.shape
    wrong = int(np.count_nonzero(kept != expected)) if same_shape else expected.size
    wrong = wrong if kept.dtype == np.int32 else expected.size
    return Row("kept_tokens", kept.shape, "int32", 32, kept.nbytes, OTHER, integers=wrong)


def _values_of(weight: Tensor) -> np.ndarray:
    """What the forward pass used, float32."""
    return weight.detach().cpu().float().numpy()


def _added(reference: Reference) -> dict[str, list[str]] | None:
    """Tokens that no Whisper has, as docs/packed_format.md lists them."""
    dims = reference.dims
    if not added_tokens(dims):
        return None
    return {"text": [*dims.added], "special": [*dims.special]}


def _generation(reference: Reference) -> dict[str, object] | None:
    return None if reference.generation is None else asdict(reference.generation)


def _bits(grid: str) -> int:
    """Of docs/packed_format.md; of a grid that it does not name, what that says of itself."""
    if grid not in GRIDS or _DOCUMENTED.fullmatch(grid):
        return next(int(c) for c in grid.removeprefix("ct2_") if c.isdigit())
    return GRIDS[grid].bits


def _values(
    packed: np.ndarray, bits: int, scale: np.ndarray, grid: str, shape: tuple[int, ...]
) -> np.ndarray:
    """The float32 values of docs/packed_format.md."""
    count = int(np.prod(shape))
    position = np.arange(count, dtype=np.int64) * bits
    data = np.append(packed, np.uint8(0)).astype(np.uint32)  # the last value may reach one further
    pair = data[position // 8] | (data[position // 8 + 1] << 8)
    unsigned = (pair >> (position % 8).astype(np.uint32)) & (2**bits - 1)
    q = unsigned.astype(np.float32) - np.float32(2 ** (bits - 1))
    if grid in GRIDS and not _DOCUMENTED.fullmatch(grid):
        integers = torch.from_numpy(q.astype(np.int8).reshape(shape))
        return GRIDS[grid].dequantize(Quantized(grid, integers, torch.from_numpy(scale))).numpy()
    if grid.endswith("_K"):
        return _of_superblocks(q.reshape(-1, 256), scale.astype(np.float32), bits).reshape(shape)
    if grid.endswith("_1"):
        blocks, half = q.reshape(-1, 32), np.float32(2 ** (bits - 1))
        d, m = (scale.astype(np.float32).reshape(-1, 2)[:, i, None] for i in (0, 1))
        return ((blocks + half) * d + m).reshape(shape)
    factor = np.float32(1) / scale if grid == "ct2_int8" else scale.astype(np.float32)
    return (q.reshape(factor.size, -1) * factor.reshape(-1, 1)).reshape(shape)


def _of_superblocks(q: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """The values of [superblocks, 256] integers and float32 scales, as the page has them."""
    count = 8 if bits in (4, 5) else 16
    groups, scale = q.reshape(len(q), count, -1), scale.reshape(len(q), -1)
    if bits in (3, 6):
        return groups * (scale[:, :1] * scale[:, 1:])[..., None]
    d, e, s, t = np.split(scale, [1, 2, 2 + count], axis=1)
    half = np.float32(2 ** (bits - 1))
    return (groups + half) * (d * s)[..., None] - (e * t)[..., None]
