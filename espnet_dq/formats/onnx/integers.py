"""The integers and scales in an ONNX folder, as they lie in its files."""

from pathlib import Path

from espnet_dq.formats.integers import as_quantized
from espnet_dq.formats.onnx import Onnx
from espnet_dq.formats.onnx.read import read
from espnet_dq.quant.grids import Quantized


def load(folder: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the files hold; raises `InputError`."""
    return {
        name: as_quantized(Onnx.grids[0], stored.values, stored.scale.reshape(-1, 1))
        for name, stored in read(folder).tensors.items()
        if stored.scale is not None
    }
