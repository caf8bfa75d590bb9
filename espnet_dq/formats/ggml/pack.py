"""Our integers and scales as the bytes of ggml's blocks.

The layouts are those of ggml's `block_q*` and of its `dequantize_row_q*`; `read` unpacks them with
code of its own.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.weights import cast

BLOCK, SUPERBLOCK = 32, 256  # columns


def pack(q: Quantized, kind: str, tensor: Tensor, name: str, path: Path | str) -> bytes:
    """The blocks of a weight in ggml's type `kind`; raises `InputError` naming it."""
    if q.integers.shape != tensor.shape:
        raise InputError(f"{name}: {tuple(q.integers.shape)} integers for {tuple(tensor.shape)}")
    scale = cast(q.scale, torch.float16, f"the scale of {name}", path).contiguous().numpy()
    integers = q.integers.cpu().numpy()
    if kind.endswith("_K"):
        blocks = integers.reshape(-1, SUPERBLOCK)
        return _superblocks(blocks, scale.reshape(len(blocks), -1), kind).tobytes()
    blocks = integers.reshape(-1, BLOCK)
    return _blocks(blocks, scale.reshape(len(blocks), -1), kind).tobytes()


def _blocks(blocks: np.ndarray, scale: np.ndarray, kind: str) -> np.ndarray:
    """A float16 scale, an offset if there are any, the fifth bits, then the integers.

    Nibbles: the first half of a block in the low ones, the second half in the high ones.
    """
    scale = scale.view(np.uint8)
    if kind == "Q8_0":
        return np.concatenate([scale, blocks.view(np.uint8)], axis=1)
    values = (blocks.astype(np.int16) + (16 if kind.startswith("Q5") else 8)).astype(np.uint8)
    parts = [scale, _nibbles(values & 15)]
    if kind.startswith("Q5"):
        parts.insert(1, np.packbits(values >> 4, axis=1, bitorder="little"))
    return np.concatenate(parts, axis=1)


def _nibbles(values: np.ndarray) -> np.ndarray:
    """[..., 2n] -> [..., n]: the first half in the low nibbles."""
    half = values.shape[-1] // 2
    return values[..., :half] | (values[..., half:] << 4)


def _superblocks(blocks: np.ndarray, scale: np.ndarray, kind: str) -> np.ndarray:
    count, bits = len(blocks), int(kind[1])
    values = (blocks.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    factors = 2 if kind in ("Q2_K", "Q4_K", "Q5_K") else 1  # d, or d and e
    halves = np.ascontiguousarray(scale[:, :factors]).view(np.uint8)
    small = scale[:, factors:].astype(np.int16)  # they are whole numbers
    if kind == "Q6_K":
        parts = values.reshape(count, 2, 4, 32)
        low = _nibbles((parts & 15).reshape(count, 2, 128))
        high = _in_bytes(parts >> 4)
        return _joined(count, low, high, small.astype(np.int8).view(np.uint8), halves)
    if kind in ("Q4_K", "Q5_K"):
        low = _nibbles((values & 15).reshape(count, 4, 64))
        fifth = [np.packbits(values.reshape(count, 8, 32) >> 4, axis=1, bitorder="little")]
        return _joined(count, halves, _six_bits(small), *(fifth if bits == 5 else []), low)
    low = _in_bytes((values & 3).reshape(count, 2, 4, 32))
    if kind == "Q2_K":
        small = small.astype(np.uint8)
        return _joined(count, small[:, :16] | (small[:, 16:] << 4), low, halves)
    third = np.packbits(values.reshape(count, 8, 32) >> 2, axis=1, bitorder="little")
    return _joined(count, third, low, _signed_six_bits(small), halves)


def _joined(count: int, *parts: np.ndarray) -> np.ndarray:
    return np.concatenate([part.reshape(count, -1) for part in parts], axis=1)


def _in_bytes(values: np.ndarray) -> np.ndarray:
    """[..., 4, n] of two bits -> [..., n]: the first from the lowest bit on."""
    shifts = np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    return np.bitwise_or.reduce(values << shifts, axis=-2)


def _six_bits(small: np.ndarray) -> np.ndarray:
    """Eight scales and eight offsets of six bits each, [superblocks, 16] -> 12 bytes each."""
    s, t = small[:, :8].astype(np.uint8), small[:, 8:].astype(np.uint8)
    return np.concatenate(
        [s[:, :4] | (s[:, 4:] >> 4 << 6), t[:, :4] | (t[:, 4:] >> 4 << 6),
         (s[:, 4:] & 15) | ((t[:, 4:] & 15) << 4)], axis=1,
    )  # fmt: skip


def _signed_six_bits(small: np.ndarray) -> np.ndarray:
    """Sixteen scales from -32 on, [superblocks, 16] -> 12 bytes each."""
    s = (small + 32).astype(np.uint8)
    high = _in_bytes((s >> 4).reshape(len(s), 4, 4))
    return np.concatenate([_nibbles(s & 15), high], axis=1)
