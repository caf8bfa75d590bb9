"""The integers and scales in an ONNX folder, as they lie in its files."""

from collections.abc import Mapping
from pathlib import Path

from espnet_dq.formats.integers import as_quantized
from espnet_dq.formats.onnx.graph import BITS, Stored
from espnet_dq.formats.onnx.read import read
from espnet_dq.formats.onnx.write import ROWS
from espnet_dq.quant.grids import Quantized


def load(folder: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the files hold; raises `InputError`."""
    return of(read(folder).tensors)


def of(tensors: Mapping[str, Stored]) -> dict[str, Quantized]:
    """The integers and scales among stored tensors."""
    grids = {bits: grid for grid, bits in BITS.items()}
    return {
        name: as_quantized(grids.get(bits, ROWS), values, scale.reshape(len(values), -1))
        for name, (values, scale, bits) in tensors.items()
        if scale is not None
    }
