"""The integers and scales in a ggml file, as they lie in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.formats.ggml.read import read
from espnet_dq.formats.ggml.write import GRIDS
from espnet_dq.formats.integers import as_quantized
from espnet_dq.quant.grids import Quantized, get_grid


def load(path: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the file holds; raises `InputError`."""
    grids = {kind: grid for grid, kind in GRIDS.items()}
    found = {}
    for name, stored in read(path).tensors.items():
        if stored.kind.name in grids and len(stored.shape) > 1:
            # With a scale of 1, and an offset that puts them around 0, values are integers.
            scales = stored.scales()
            blocks = stored.raw.reshape(scales.shape[0] * scales.shape[1], -1).copy()
            blocks[:, :2] = np.array([1], "<f2").view(np.uint8)
            if scales.ndim == 3:
                half = 2 ** (get_grid(grids[stored.kind.name]).bits - 1)
                blocks[:, 2:4] = np.array([-half], "<f2").view(np.uint8)
            values = replace(stored, raw=blocks).values()
            found[name] = as_quantized(grids[stored.kind.name], values, stored.scales())
    return found
