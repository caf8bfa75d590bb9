"""The integers and scales in a file, for those of its weights that lie on one of our grids.

The loaders give what they stand for, as floats. This stands beside them and uses the same
readers, so that those, on which `bin.verify` stands, know nothing of `quant`.
"""

from pathlib import Path

import numpy as np
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats.detect import detect
from espnet_dq.formats.registry import FORMATS
from espnet_dq.quant.grids import Quantized, get_grid


def load(path: Path | str) -> dict[str, Quantized]:
    """openai-whisper's name -> integers and scales, as they lie in the file.

    Not in it: floats, and integers of others that are on no grid of ours (CTranslate2's int16, the
    ONNX pair of Hugging Face).

    Raises:
        InputError: as the loader of the format, or the integers or scales of a weight are
            none that its grid can have.
    """
    found = FORMATS[detect(path)].integers(Path(path))
    for name, q in found.items():
        if int(q.integers.min()) < get_grid(q.grid).bottom or not q.scale.isfinite().all():
            raise InputError(f"{path}: {name} cannot be kept: its integers are not on {q.grid}")
    return found


def as_quantized(grid: str, integers: np.ndarray, scale: np.ndarray) -> Quantized:
    """A weight's arrays, copied, as a grid has them."""
    integers, scale = np.array(integers, np.int8, order="C"), np.array(scale, order="C")
    return Quantized(grid, torch.from_numpy(integers), torch.from_numpy(scale))
