"""The integers and scales in a ggml file, as they lie in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.formats.ggml.read import Stored, read
from espnet_dq.formats.ggml.write import GRIDS
from espnet_dq.formats.integers import as_quantized
from espnet_dq.quant.grids import Quantized


def load(path: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the file holds; raises `InputError`."""
    grids = {kind: grid for grid, kind in GRIDS.items()}
    found = {}
    for name, stored in read(path).tensors.items():
        if stored.kind.name in grids and len(stored.shape) > 1:
            scales = stored.scales()
            integers = _integers(stored, scales.shape[0] * scales.shape[1])
            found[name] = as_quantized(grids[stored.kind.name], integers, scales)
    return found


# Where superblocks have their factors and small integers: bytes with which a group's scale is 1 and
# its offset 0.
_ONE = np.array([1], "<f2").tobytes()
_PLAIN = {
    "Q2_K": {0: b"\1" * 16, 80: _ONE + bytes(2)},
    "Q3_K": {96: b"\x11" * 8 + b"\xaa" * 4, 108: _ONE},
    "Q4_K": {0: _ONE + bytes(2), 4: b"\1" * 4 + bytes(4) + b"\1" * 4},
    "Q5_K": {0: _ONE + bytes(2), 4: b"\1" * 4 + bytes(4) + b"\1" * 4},
    "Q6_K": {192: b"\1" * 16, 208: _ONE},
}


def _integers(stored: Stored, blocks: int) -> np.ndarray:
    """With a scale of 1, and no offset, values are integers; those around 0 that a grid has."""
    raw, kind = stored.raw.reshape(blocks, -1).copy(), stored.kind.name
    half = 2 ** (int(kind[1]) - 1)
    plain = _PLAIN.get(kind, {0: _ONE + (np.array([-half], "<f2").tobytes() * kind.endswith("_1"))})
    for at, content in plain.items():
        raw[:, at : at + len(content)] = np.frombuffer(content, np.uint8)
    values = replace(stored, raw=raw).values()
    return values - half if kind in ("Q2_K", "Q4_K", "Q5_K") else values
