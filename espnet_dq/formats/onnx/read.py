"""Read the ONNX Whisper that `write` writes: `encoder.onnx` and `decoder.onnx` in a folder.

Weights are found by their names, which are openai-whisper's. Every size is checked against the
dimensions in the encoder's metadata before any value is converted.
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from math import prod
from os.path import lexists
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats.onnx.graph import (
    BITS,
    BLOCK,
    Stored,
    is_linear,
    scale_shape,
    stored_shape,
)
from espnet_dq.formats.onnx.wire import read_model
from espnet_dq.reading import read_limited
from espnet_dq.whisper.any_window import ANY_WINDOW
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.vocabulary import (
    WHOLE,
    arrange,
    printable,
    token_strings,
    whole_ids,
    whole_tokenizer,
)
from espnet_dq.whisper.weights import Weights, check_dims

FILES = ("encoder.onnx", "decoder.onnx")
_TOKENS = 16 << 20
_TYPES = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.INT8: np.dtype("i1"),
    TensorProto.UINT8: np.dtype("u1"),
}


@dataclass(frozen=True)
class Content:
    """What a folder holds: dimensions, and each tensor as stored, in openai-whisper's shape."""

    dims: ModelDimensions
    tensors: dict[str, Stored]
    any_window: bool = False


def read(folder: Path | str) -> Content:
    """Read both files; nothing is dequantized.

    Raises:
        InputError: a file is missing or damaged, or a tensor is missing, unknown, stored twice,
            or of the wrong type or size.
    """
    folder = Path(folder)
    models = {folder / file: read_model(folder / file) for file in FILES}
    first = folder / FILES[0]
    dims = _dims(models[first], first)
    tensors = tensors_of(models, dims, folder)
    said = {e.key: e.value for e in models[first].metadata_props if e.key == ANY_WINDOW}
    if said.get(ANY_WINDOW, "1") != "1":
        raise InputError(f"{first}: metadata key {ANY_WINDOW} is not 1")
    return Content(_vocabulary(dims, folder), tensors, bool(said))


def tensors_of(
    models: Mapping[Path, onnx.ModelProto], dims: ModelDimensions, folder: Path
) -> dict[str, Stored]:
    """All weights of a Whisper that lie in the models of some files; raises as `read`."""
    found: dict[str, tuple[onnx.TensorProto, Path]] = {}
    for file, model in models.items():
        for tensor in model.graph.initializer:
            name = text(tensor.name, file)
            if name in found:
                raise InputError(f"{file}: {name} is stored twice")
            found[name] = tensor, file
    tensors = {}
    for name, shape in weight_shapes(dims).items():
        if name not in found:
            raise InputError(f"{folder}: {name} is missing")
        tensor, path = found.pop(name)
        if tensor.data_type == TensorProto.UINT8:
            if f"{name}.scale" not in found:
                raise InputError(f"{folder}: {name} holds integers without scales")
            tensors[name] = _blocks(tensor, *found.pop(f"{name}.scale"), shape)
            continue
        values = _array(tensor, path, stored_shape(name, shape))
        values = values.T if is_linear(name) else values
        if values.dtype != np.int8:
            tensors[name] = Stored(values)
            continue
        if len(shape) < 2 or f"{name}.scale" not in found:
            raise InputError(f"{folder}: {name} holds integers without scales")
        scale = _array(*found.pop(f"{name}.scale"), scale_shape(name, shape))
        if scale.dtype != np.float32 or not np.isfinite(scale).all():
            raise InputError(f"{folder}: {name}.scale is not finite float32")
        if values.min() < -127:
            raise InputError(f"{folder}: {name} holds -128, which is not on grid onnx_int8")
        tensors[name] = Stored(values, scale.reshape(-1))
    if found:
        raise InputError(f"{folder}: {min(found)} is not a Whisper weight")
    return tensors


def load(folder: Path | str) -> Weights:
    """Floats as stored, the rest dequantized to float32; raises `InputError` as `read`."""
    content = read(folder)
    state = state_of(content.tensors)
    return Weights(content.dims, state, any_window=content.any_window).check(str(folder))


def state_of(tensors: Mapping[str, Stored]) -> dict[str, torch.Tensor]:
    """The values of stored tensors."""
    state = {}
    for name, (values, scale, bits) in tensors.items():
        if bits:
            blocks = values.astype(np.float32).reshape(*scale.shape, BLOCK)
            values = (blocks * scale.astype(np.float32)[..., None]).reshape(values.shape)
        elif scale is not None:
            with np.errstate(over="ignore"):  # checked with all others
                values = values.astype(np.float32) * scale.reshape(-1, *(1,) * (values.ndim - 1))
        state[name] = torch.from_numpy(np.array(values, order="C"))
    return state


def text(value: str | bytes, path: Path) -> str:
    """A string of a model in `path`; protobuf gives bytes where it is not UTF-8."""
    if isinstance(value, bytes):
        raise InputError(f"{path}: {value[:40]!r} is not UTF-8")
    return value


def _dims(model: onnx.ModelProto, path: Path) -> ModelDimensions:
    metadata = {text(e.key, path): text(e.value, path) for e in model.metadata_props}
    values = {}
    for field in fields(ModelDimensions):
        value = metadata.get(field.name, "")
        if not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise InputError(f"{path}: metadata key {field.name} is {value[:20]!r}, no number")
        values[field.name] = int(value)
    return check_dims(ModelDimensions(**values), str(path))


def _vocabulary(dims: ModelDimensions, folder: Path) -> ModelDimensions:
    """`dims` with the tokens of text that tokens.txt has, and all special ones."""
    path = folder / "tokens.txt"
    if not lexists(path):
        return dims
    content = read_limited(path, _TOKENS)
    try:
        names, whole = _names(content)
    except ValueError as e:
        why = (str(e) or type(e).__name__)[:160]
        raise InputError(f"{path}: not a list of tokens ({why})") from e
    count = dims.n_vocab - len(names)
    languages = {WHOLE[1]: WHOLE[1:]}.get(whole, (whole,))  # 100 have one token more
    special = {n - whole_tokenizer(n).eot: whole_tokenizer(n).encoding for n in languages}
    if count not in special:
        raise InputError(f"{path}: {len(names)} tokens in order do not fit n_vocab {dims.n_vocab}")
    rest = token_strings(special[count])[-count:]
    tokens = dict(enumerate([*names, *rest]))
    dims, order = arrange(dims, tokens, (), str(path))
    if order != [*range(dims.n_vocab)]:
        raise InputError(f"{path}: its tokens are not in Whisper's order")
    return dims


@lru_cache(maxsize=4)  # a third of a second, and who verifies a model reads it several times
def _names(content: bytes) -> tuple[tuple[str, ...], int]:
    """The tokens of text, and the size of the whole vocabulary that has most of them.

    Raises `ValueError`.
    """
    found = []
    for i, line in enumerate(content.decode("ascii").splitlines()):
        token, number = line.split(" ")
        if int(number) != i:
            raise ValueError(f"{number[:20]} stands where {i} should")
        found.append(binascii.a2b_base64(token, strict_mode=True) if token != "=" else b"")
    printed = [*map(printable, found)]
    whole = whole_ids({*printed})
    names: dict[str, None] = {}
    for token, name in zip(found, printed, strict=True):
        # An added one is what it says, as special ones are.
        name = name if name in whole and name not in names else token.decode("utf-8")
        if name in names:
            raise ValueError(f"{name!r} is there twice")
        names[name] = None
    return tuple(names), len(whole)


def _blocks(
    tensor: onnx.TensorProto, scale: onnx.TensorProto, path: Path, shape: tuple[int, ...]
) -> Stored:
    """A matrix on a grid of blocks, its integers with 0 for the value 0."""
    name = tensor.name
    if len(shape) != 2 or name.endswith("positional_embedding") or shape[1] % BLOCK:
        raise InputError(f"{path}: {name} holds blocks, as only matrices of whole blocks do")
    rows, blocks = shape[0], shape[1] // BLOCK
    bits = tensor.dims[-1] * 8 // BLOCK if tensor.dims else 0
    if bits not in BITS.values():
        raise InputError(f"{path}: {name} has shape {tuple(tensor.dims)}, no blocks of {BLOCK}")
    values = _array(tensor, path, (rows, blocks, BLOCK * bits // 8))
    factors = _array(scale, path, (rows, blocks))
    if factors.dtype != np.float16 or not np.isfinite(factors).all():
        raise InputError(f"{path}: {name}.scale is not finite float16")
    if bits == 4:
        values = np.stack([values & 15, values >> 4], axis=-1)
    elif not values.all():
        raise InputError(f"{path}: {name} holds -128, which is not on grid ggml_q8_0")
    integers = (values.astype(np.int16) - 2 ** (bits - 1)).astype(np.int8).reshape(shape)
    return Stored(integers, factors, bits)


def _array(tensor: onnx.TensorProto, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A view of a tensor's values, which must have this shape."""
    dtype = _TYPES.get(tensor.data_type)
    if dtype is None:
        raise InputError(f"{path}: {tensor.name} has type {tensor.data_type}, no float nor int8")
    if tuple(tensor.dims) != shape:
        raise InputError(f"{path}: {tensor.name} has shape {tuple(tensor.dims)}, expected {shape}")
    if tensor.data_location != TensorProto.DEFAULT:
        raise InputError(f"{path}: {tensor.name} lies in another file, which is not read")
    if len(tensor.raw_data) != prod(shape) * dtype.itemsize:
        raise InputError(f"{path}: {tensor.name} has {len(tensor.raw_data)} bytes, not {shape}")
    return np.frombuffer(tensor.raw_data, dtype).reshape(shape)
