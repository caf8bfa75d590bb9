"""Write a Whisper in the format of a runtime: which format holds which grid."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import check_replaceable
from espnet_dq.formats import (
    ctranslate2_writer,
    ggml_writer,
    huggingface,
    onnx_writer,
    openai,
    packed,
)
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.grids import Quantized, get_grid

# None: any grid. `packed` holds its integers, `openai` and `hf` its float32 values.
GRIDS: dict[str, tuple[str, ...] | None] = {
    "openai": None,
    "ct2": (ctranslate2_writer.GRID,),
    "ggml": tuple(ggml_writer.GRIDS),
    "packed": None,
    "hf": None,
    "onnx": (onnx_writer.GRID,),
}
FOLDERS = {
    "ct2": ctranslate2_writer.FOLDER,
    "hf": huggingface.FOLDER,
    "onnx": onnx_writer.FOLDER,
}


def check_grids(form: str, dims: ModelDimensions, grids: Mapping[str, str]) -> None:
    """Raise `InputError` if a format does not hold these weights' integers or tokens.

    Args:
        form: a key of `GRIDS`.
        dims: the model's.
        grids: openai-whisper's name -> grid, of what is on one.
    """
    for grid in sorted({*grids.values()}):
        get_grid(grid)
        if (known := GRIDS[form]) is not None and grid not in known:
            raise InputError(f"grid {grid} does not fit {form}, which holds {', '.join(known)}")
    if form == "ggml":
        ggml_writer.check_grids(dims, grids)
    if form in ("openai", "ct2", "onnx"):
        {"openai": openai, "ct2": ctranslate2_writer, "onnx": onnx_writer}[form].check_vocabulary(
            dims
        )


def check_out(form: str, path: Path | str) -> None:
    """Raise `InputError` if at `path` stands what a model of this format must not replace.

    `write` asks this, too, but by then the work is done.
    """
    check_replaceable(path, FOLDERS.get(form))


def write(
    form: str,
    path: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    float_dtype: str,
) -> None:
    """Write `weights`, those in `quantized` on their grids, as integers where possible.

    Args:
        form: `openai`, `ggml`, `packed` (a file), `ct2`, `hf`, `onnx` (a folder).
        path: where; appears whole or not at all.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales.
        float_dtype: `float16` or `float32`, for what is on no grid (`openai` and
            `hf` write float32 if anything is on one: float16 would move it off).

    Raises:
        InputError: the format does not hold a grid, or something else is at `path`.
    """
    path = Path(path)
    check_out(form, path)
    check_grids(form, weights.dims, {name: q.grid for name, q in quantized.items()})
    for name, q in quantized.items():
        if not get_grid(q.grid).dequantize(q).isfinite().all():
            raise InputError(f"{path}: {name} holds values on {q.grid} that are not all finite")
    if form == "openai":
        values = {name: get_grid(q.grid).dequantize(q) for name, q in quantized.items()}
        dtype = torch.float32 if quantized else getattr(torch, float_dtype)
        openai.save(path, replace(weights, state=weights.state | values), dtype=dtype)
        return
    writers = {
        "ct2": ctranslate2_writer,
        "ggml": ggml_writer,
        "packed": packed,
        "hf": huggingface,
        "onnx": onnx_writer,
    }
    writers[form].save(path, weights, quantized, float_dtype=float_dtype)
