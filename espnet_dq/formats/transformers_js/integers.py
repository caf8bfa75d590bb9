"""The integers and scales in such a folder, as they lie in its files."""

from pathlib import Path

from espnet_dq.formats.onnx.integers import of
from espnet_dq.formats.transformers_js.read import read
from espnet_dq.quant.grids import Quantized


def load(folder: Path) -> dict[str, Quantized]:
    """openai-whisper's name -> what the files hold; raises `InputError`."""
    return of(read(folder)[2])
