"""The integers and scales in a file, for those of its weights that lie on one of our grids.

The loaders give what they stand for, as floats. This stands beside them and uses the same
readers, so that those, on which `bin.verify` stands, know nothing of `quant`.
"""

from dataclasses import replace
from os.path import lexists
from pathlib import Path

import numpy as np
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats import (
    ctranslate2,
    ctranslate2_writer,
    ggml,
    ggml_writer,
    onnx_reader,
    onnx_writer,
    packed,
)
from espnet_dq.formats.ctranslate2_binary import read_variables
from espnet_dq.formats.detect import detect
from espnet_dq.formats.weights import EMBEDDING, check_dims
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.dims import weight_shapes


def load(path: Path | str) -> dict[str, Quantized]:
    """openai-whisper's name -> integers and scales, as they lie in the file.

    Not in it: floats, and integers of others that are on no grid of ours (ggml's q5_1, the
    ONNX pair of Hugging Face).

    Raises:
        InputError: as the loader of the format, or the integers or scales of a weight are
            none that its grid can have.
    """
    path, form = Path(path), detect(path)
    if form == "packed":
        found = packed.read(path).quantized
    elif form == "ct2":
        found = _ctranslate2(path)
    elif form == "ggml":
        found = _ggml(path)
    elif form == "onnx" and lexists(path / onnx_reader.FILES[0]):
        found = _onnx(path)
    else:
        found = {}
    for name, q in found.items():
        if int(q.integers.min()) < get_grid(q.grid).bottom or not q.scale.isfinite().all():
            raise InputError(f"{path}: {name} cannot be kept: its integers are not on {q.grid}")
    return found


def _ctranslate2(folder: Path) -> dict[str, Quantized]:
    path = folder / "model.bin"
    variables = read_variables(path)
    sizes = check_dims(ctranslate2.read_dims(variables, path), str(path))
    order, shapes = ctranslate2.read_vocabulary(sizes, folder)[1], weight_shapes(sizes)
    found = {}
    for name, stored in ctranslate2.split(variables, path).items():
        if stored.scale is None:
            continue
        if stored.values.shape != shapes.get(name) or not (stored.scale > 0).all():
            raise InputError(f"{path}: {name} cannot be kept: its sizes or scales are no Whisper's")
        rows = order if name == EMBEDDING else slice(None)
        found[name] = _quantized(ctranslate2_writer.GRID, stored.values[rows], stored.scale[rows])
    return found


def _ggml(path: Path) -> dict[str, Quantized]:
    grids = {kind: grid for grid, kind in ggml_writer.GRIDS.items()}
    found = {}
    for name, stored in ggml.read(path).tensors.items():
        if stored.kind.name in grids and len(stored.shape) > 1:
            # With a scale of 1 the value of a block is its integers.
            blocks = stored.raw.reshape(stored.scales().size, -1).copy()
            blocks[:, :2] = np.array([1], "<f2").view(np.uint8)
            values = replace(stored, raw=blocks).values()
            found[name] = _quantized(grids[stored.kind.name], values, stored.scales())
    return found


def _onnx(folder: Path) -> dict[str, Quantized]:
    return {
        name: _quantized(onnx_writer.GRID, stored.values, stored.scale.reshape(-1, 1))
        for name, stored in onnx_reader.read(folder).tensors.items()
        if stored.scale is not None
    }


def _quantized(grid: str, integers: np.ndarray, scale: np.ndarray) -> Quantized:
    integers, scale = np.array(integers, np.int8, order="C"), np.array(scale, order="C")
    return Quantized(grid, torch.from_numpy(integers), torch.from_numpy(scale))
