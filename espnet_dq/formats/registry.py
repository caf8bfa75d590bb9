"""The formats of models, by name. Another one is a `Format` that is added to `FORMATS`."""

from collections.abc import Mapping

from espnet_dq.formats.ct2 import CTranslate2
from espnet_dq.formats.format import Format
from espnet_dq.formats.ggml import Ggml
from espnet_dq.formats.hf import HuggingFace
from espnet_dq.formats.onnx import Onnx
from espnet_dq.formats.onnx_hf import OnnxHuggingFace
from espnet_dq.formats.openai import OpenAI
from espnet_dq.formats.packed import Packed
from espnet_dq.formats.transformers_js import TransformersJs

# In this order a path is asked what it holds, and a grid whose it is.
_OURS = (
    CTranslate2(),
    HuggingFace(),
    Ggml(),
    Onnx(),
    TransformersJs(),
    OnnxHuggingFace(),
    OpenAI(),
    Packed(),
)
FORMATS: dict[str, Format] = {form.name: form for form in _OURS}


def written() -> list[str]:
    """Names of the formats that models are written in, for command lines."""
    return sorted(name for name, form in FORMATS.items() if form.writes)


def home(grid: str) -> Format:
    """The format that has a grid's integers for a runtime; `packed`, which holds all, if none.

    So of a table in a file: students are trained on one for PyTorch, which alone takes any.
    """
    held = (f for f in FORMATS.values() if f.grids is not None and grid in f.grids)
    return next(held, FORMATS[Packed.name])


def form_of(grid: str | Mapping[str, str]) -> str:
    """The format of the only runtime that has a grid, or the only one of a table; else `packed`.

    No runtime but PyTorch takes weights on several of its grids in one file.
    """
    grids = {grid} if isinstance(grid, str) else {*grid.values()} - {"none"}
    return home(grids.pop()).name if len(grids) == 1 else Packed.name


def padding_of(grids: str | Mapping[str, str]) -> str:
    """What the runtime of a grid, or of the only one of a table, fills windows with."""
    return FORMATS[form_of(grids)].padding
