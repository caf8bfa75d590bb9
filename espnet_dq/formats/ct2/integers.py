"""The integers and scales in a CTranslate2 folder, as they lie in the file."""

from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.formats.ct2 import CTranslate2
from espnet_dq.formats.ct2.binary import read_variables
from espnet_dq.formats.ct2.read import read_dims, read_vocabulary, split
from espnet_dq.formats.integers import as_quantized
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import EMBEDDING, check_dims


def load(folder: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the file holds; raises `InputError`."""
    path = folder / "model.bin"
    variables = read_variables(path)
    sizes = check_dims(read_dims(variables, path), str(path))
    order, shapes = read_vocabulary(sizes, folder)[1], weight_shapes(sizes)
    found = {}
    for name, stored in split(variables, path).items():
        if stored.values.dtype != np.int8:  # floats, or int16, which is no grid of ours
            continue
        if stored.values.shape != shapes.get(name) or not (stored.scale > 0).all():
            raise InputError(f"{path}: {name} cannot be kept: its sizes or scales are no Whisper's")
        rows = order if name == EMBEDDING else slice(None)
        found[name] = as_quantized(CTranslate2.grids[0], stored.values[rows], stored.scale[rows])
    return found
