"""whisper.cpp's ggml file.

Layout, little-endian: magic 0x67676d6c; 11 int32 (vocabulary, audio ctx, state, head, layer,
text ctx, state, head, layer, mels, ftype); mel filters (two int32 counts, float32 values);
the vocabulary (count, then length and bytes of each token); then tensors until the end:
int32 rank, name length, type, then the dimensions, innermost first, the name and the data.
Names are openai-whisper's.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats.binary import Reader
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes
from espnet_dq.whisper.vocabulary import WHOLE, token_bytes
from espnet_dq.whisper.weights import Weights, check_dims

MAGIC = 0x67676D6C
_TYPES = {
    int(t): t
    for t in (
        gguf.GGMLQuantizationType.F32,
        gguf.GGMLQuantizationType.F16,
        gguf.GGMLQuantizationType.Q4_0,
        gguf.GGMLQuantizationType.Q4_1,
        gguf.GGMLQuantizationType.Q5_0,
        gguf.GGMLQuantizationType.Q5_1,
        gguf.GGMLQuantizationType.Q8_0,
        gguf.GGMLQuantizationType.Q2_K,
        gguf.GGMLQuantizationType.Q3_K,
        gguf.GGMLQuantizationType.Q4_K,
        gguf.GGMLQuantizationType.Q5_K,
        gguf.GGMLQuantizationType.Q6_K,
    )
}
# ftype: what whisper.cpp takes most tensors to be; quantized files add 1000 x their version, 2.
FTYPES = {"F32": 0, "F16": 1, "Q4_0": 2002, "Q4_1": 2003, "Q8_0": 2007, "Q5_0": 2008, "Q5_1": 2009,
          "Q2_K": 2010, "Q3_K": 2011, "Q4_K": 2012, "Q5_K": 2013, "Q6_K": 2014}  # fmt: skip
_AT_ONCE = 1 << 12  # blocks to dequantize
_FLOATS = {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}


@dataclass(frozen=True)
class Stored:
    """A tensor of the file as it lies there, `raw` a view of its bytes."""

    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]
    raw: np.ndarray

    def _rows(self) -> np.ndarray:
        """(rows, bytes of a row); a convolution's rows are its innermost dimension."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return self.raw.reshape(-1, self.shape[-1] // block * size)

    def values(self) -> np.ndarray:
        """Floats as stored; blocks dequantized by the `gguf` package, float32."""
        if self.kind in _FLOATS:
            return np.frombuffer(self.raw.tobytes(), dtype=_FLOATS[self.kind]).reshape(self.shape)
        # The package takes 16 rows at a time, which is slow for short ones.
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        blocks, values = self.raw.reshape(-1, size), np.empty(self.shape, np.float32)
        rows = values.reshape(-1, block)
        for start in range(0, len(blocks), _AT_ONCE):
            some = blocks[start : start + _AT_ONCE].reshape(1, -1)
            rows[start : start + _AT_ONCE] = gguf.dequantize(some, self.kind).reshape(-1, block)
        return values

    def scales(self) -> np.ndarray:
        """(rows, blocks) float16: the first two bytes of every block.

        Of a type with offsets (rows, blocks, 2): the two bytes behind them, too. Of superblocks
        (rows, superblocks, n): their one or two floats, then the small integers.
        """
        _, size = gguf.GGML_QUANT_SIZES[self.kind]
        blocks = self._rows().reshape(len(self._rows()), -1, size)
        if self.kind.name.endswith("_K"):
            return _small_integers(blocks, self.kind.name)
        if self.kind.name.endswith("_1"):
            return blocks[..., :4].copy().view(np.float16)
        return blocks[..., :2].copy().view(np.float16)[..., 0]


def _small_integers(blocks: np.ndarray, kind: str) -> np.ndarray:
    """Of superblocks (..., bytes): float16 d, and e if there are offsets, scales, and offsets."""
    halves = {"Q2_K": (80, 84), "Q3_K": (108, 110), "Q6_K": (208, 210)}.get(kind, (0, 4))
    factors = blocks[..., slice(*halves)].copy().view(np.float16)
    if kind == "Q6_K":
        small = [blocks[..., 192:208].copy().view(np.int8)]
    elif kind == "Q2_K":
        small = [blocks[..., :16] & 15, blocks[..., :16] >> 4]
    elif kind == "Q3_K":
        packed, high = blocks[..., 96:104], blocks[..., 104:108]
        low = np.concatenate([packed & 15, packed >> 4], axis=-1)
        upper = np.concatenate([(high >> shift) & 3 for shift in (0, 2, 4, 6)], axis=-1)
        small = [(low | (upper << 4)).astype(np.int16) - 32]
    else:
        first, second, third = (blocks[..., i : i + 4] for i in (4, 8, 12))
        small = [first & 63, (third & 15) | (first >> 6 << 4),
                 second & 63, (third >> 4) | (second >> 6 << 4)]  # fmt: skip
    return np.concatenate([factors, *(each.astype(np.float16) for each in small)], axis=-1)


@dataclass(frozen=True)
class Content:
    """All that a file holds."""

    dims: ModelDimensions
    ftype: int
    filters: np.ndarray  # (mels, bins) float32
    tokens: list[bytes]
    tensors: dict[str, Stored]


def read(path: Path | str) -> Content:
    """Read a ggml Whisper; tensors stay views of the file.

    Raises:
        InputError: wrong magic, truncated, a size that does not fit, an unknown tensor or type,
            a tensor that is missing.
    """
    reader = Reader(path)
    if reader.number("I", "magic") != MAGIC:
        raise InputError(f"{path}: not a ggml file: its magic is not {MAGIC:#x}")
    dims, ftype = _hyper_parameters(reader)
    shape = reader.unpack("II", "mel filter sizes")
    filters = reader.view(4 * math.prod(shape), "mel filters").tobytes()
    count = reader.number("I", "vocabulary size")
    if count > dims.n_vocab:
        raise InputError(f"{path}: {count} tokens, but n_vocab is {dims.n_vocab}")
    tokens = reader.strings(count, "token")
    shapes = weight_shapes(dims)
    tensors: dict[str, Stored] = {}
    while reader.left:
        name, tensor = _tensor(reader, shapes)
        if name in tensors:
            raise InputError(f"{path}: {name} is there twice")
        tensors[name] = tensor
    for name in shapes:
        if name not in tensors:
            raise InputError(f"{path}: {name} is missing")
    return Content(dims, ftype, np.frombuffer(filters, np.float32).reshape(shape), tokens, tensors)


def load(path: Path | str) -> Weights:
    """Float tensors as stored, block-quantized ones as float32; raises `InputError` as `read`."""
    content = read(path)
    check_tokens(content, path)
    state = {
        name: torch.from_numpy(stored.values().copy()) for name, stored in content.tensors.items()
    }
    return Weights(content.dims, state).check(str(path))


def check_tokens(content: Content, path: Path | str) -> None:
    """Raise `InputError` for tokens that are not those of the vocabulary of the file's size.

    whisper.cpp goes by the size alone; the file need not list special tokens.
    """
    if content.dims.n_vocab not in WHOLE:
        return  # whoever needs a tokenizer says so
    ours = token_bytes(any_tokenizer(content.dims).encoding)
    for i, token in enumerate(content.tokens):
        if token != ours[i]:
            raise InputError(f"{path}: token {i} is {token[:40]!r}, not where Whisper has it")


def _hyper_parameters(reader: Reader) -> tuple[ModelDimensions, int]:
    """Dimensions and ftype, which repeats what most tensors say of themselves."""
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
    return check_dims(dims, str(reader.path)), v[10]


def _tensor(reader: Reader, shapes: dict[str, tuple[int, ...]]) -> tuple[str, Stored]:
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
    return name, Stored(kind, shape, raw)
