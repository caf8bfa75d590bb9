"""The integers and scales in a ggml file, as they lie in it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from espnet_dq.formats.ggml.read import read
from espnet_dq.formats.ggml.write import GRIDS
from espnet_dq.formats.integers import as_quantized
from espnet_dq.quant.grids import Quantized


def load(path: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the file holds, but for others' q5_1; raises `InputError`."""
    grids = {kind: grid for grid, kind in GRIDS.items()}
    found = {}
    for name, stored in read(path).tensors.items():
        if stored.kind.name in grids and len(stored.shape) > 1:
            # With a scale of 1 the value of a block is its integers.
            blocks = stored.raw.reshape(stored.scales().size, -1).copy()
            blocks[:, :2] = np.array([1], "<f2").view(np.uint8)
            values = replace(stored, raw=blocks).values()
            found[name] = as_quantized(grids[stored.kind.name], values, stored.scales())
    return found
