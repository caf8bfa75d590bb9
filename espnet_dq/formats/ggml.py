"""whisper.cpp's ggml file.

Layout, little-endian: magic 0x67676d6c; 11 int32 (vocabulary, audio ctx, state, head, layer,
text ctx, state, head, layer, mels, ftype); mel filters (two int32 counts, float32 values);
the vocabulary (count, then length and bytes of each token); then tensors until the end:
int32 rank, name length, type, then the dimensions, innermost first, the name and the data.
Names are openai-whisper's.
"""

import math
from pathlib import Path

import gguf
import numpy as np
import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats.binary import Reader
from espnet_dq.formats.weights import Weights, check_dims
from espnet_dq.whisper.dims import weight_shapes

MAGIC = 0x67676D6C
_TYPES = {
    int(t): t
    for t in (
        gguf.GGMLQuantizationType.F32,
        gguf.GGMLQuantizationType.F16,
        gguf.GGMLQuantizationType.Q4_0,
        gguf.GGMLQuantizationType.Q5_0,
        gguf.GGMLQuantizationType.Q5_1,
        gguf.GGMLQuantizationType.Q8_0,
    )
}
_FLOATS = {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}


def load(path: Path | str) -> Weights:
    """Read a ggml Whisper: float tensors as stored, block-quantized ones as float32.

    Raises:
        InputError: wrong magic, truncated, a size that does not fit, an unknown tensor or type.
    """
    reader = Reader(path)
    if reader.number("I", "magic") != MAGIC:
        raise InputError(f"{path}: not a ggml file: its magic is not {MAGIC:#x}")
    dims = _dims(reader)
    n_filters, n_bins = reader.unpack("II", "mel filter sizes")
    reader.view(4 * n_filters * n_bins, "mel filters")
    for i in range(reader.number("I", "vocabulary size")):
        reader.view(reader.number("I", f"length of token {i}"), f"token {i}")
    shapes = weight_shapes(dims)
    state: dict[str, torch.Tensor] = {}
    while reader.left:
        name, tensor = _tensor(reader, shapes)
        if name in state:
            raise InputError(f"{path}: {name} is there twice")
        state[name] = tensor
    return Weights(dims, state).check(str(path))


def _dims(reader: Reader) -> ModelDimensions:
    """The hyper-parameters; the last one, ftype, only repeats what each tensor says."""
    v = reader.unpack("11i", "hyper-parameters")
    dims = ModelDimensions(
        n_mels=v[9],
        n_audio_ctx=v[1],
        n_audio_state=v[2],
        n_audio_head=v[3],
        n_audio_layer=v[4],
        n_vocab=v[0],
        n_text_ctx=v[5],
        n_text_state=v[6],
        n_text_head=v[7],
        n_text_layer=v[8],
    )
    return check_dims(dims, str(reader.path))


def _tensor(reader: Reader, shapes: dict[str, tuple[int, ...]]) -> tuple[str, torch.Tensor]:
    """The next tensor; its shape is the model's, which a convolution's bias [n, 1] is not."""
    rank, length, kind = reader.unpack("3i", "tensor header")
    if not 1 <= rank <= 4 or not 0 < length <= 512:
        raise InputError(f"{reader.path}: bad tensor header before byte {reader.offset}")
    stored = tuple(reversed(reader.unpack(f"{rank}i", "tensor dimensions")))
    name = reader.text(length, "tensor name")
    if name not in shapes:
        raise InputError(f"{reader.path}: {name!r} is not a Whisper weight")
    if kind not in _TYPES:
        raise InputError(f"{reader.path}: {name} has type {kind}, which is not read here")
    shape = shapes[name]
    if min(stored) < 1 or (stored != shape and stored != (*shape, 1)):
        raise InputError(f"{reader.path}: {name} has shape {stored}, expected {shape}")
    kind = _TYPES[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    if stored[-1] % block:
        raise InputError(f"{reader.path}: {name}: rows of {stored[-1]} do not fit {kind.name}")
    raw = reader.view(math.prod(stored) // block * block_bytes, name)
    if kind in _FLOATS:
        values = np.frombuffer(raw.tobytes(), dtype=_FLOATS[kind])
    else:
        rows = raw.reshape(-1, stored[-1] // block * block_bytes)
        values = gguf.dequantize(rows, kind)
    return name, torch.from_numpy(values.reshape(shape).copy())
