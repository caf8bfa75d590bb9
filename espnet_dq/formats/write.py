"""Write a Whisper in the format of a runtime."""

from collections.abc import Mapping
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.config import known
from espnet_dq.errors import InputError
from espnet_dq.files import check_replaceable
from espnet_dq.formats.format import Format
from espnet_dq.formats.registry import FORMATS, written
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.weights import Weights, all_finite


def get_format(name: str) -> Format:
    """A format that models are written in; raises `InputError`."""
    known("format", name, written())
    return FORMATS[name]


def kind_of(form: str, half: bool) -> Format:
    """A format, with files that compute in float16 (`half`) if it has any; else `InputError`."""
    return FORMATS[form].with_half() if half else FORMATS[form]


def check_grids(
    form: str, dims: ModelDimensions, grids: Mapping[str, str], half: bool = False
) -> None:
    """Raise `InputError` if a format does not hold these weights' integers or tokens.

    None holds a vocabulary that nobody knows: a trimmed one of which there is only the size.

    Args:
        form: a key of `FORMATS`.
        dims: the model's.
        grids: openai-whisper's name -> grid, of what is on one.
        half: as of `write`.
    """
    any_tokenizer(dims)
    held = FORMATS[form].grids
    for grid in sorted({*grids.values()}):
        get_grid(grid)
        if held is not None and grid not in held:
            what = ", ".join(held) or "none of our grids"
            raise InputError(f"grid {grid} does not fit {form}, which holds {what}")
    kind_of(form, half).check(dims, grids)


def check_out(form: str, path: Path | str) -> None:
    """Raise `InputError` if at `path` stands what a model of this format must not replace.

    `write` asks this, too, but by then the work is done.
    """
    check_replaceable(path, get_format(form).folder)


def write(
    form: str,
    path: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    float_dtype: str,
    half: bool = False,
) -> None:
    """Write `weights`, those in `quantized` on their grids, as integers where possible.

    Args:
        form: a key of `FORMATS`.
        path: where; appears whole or not at all.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales.
        float_dtype: `float16` or `float32`, for what is on no grid (`openai` and
            `hf` write float32 if anything is on one: float16 would move it off).
        half: with files that compute in float16, too.

    Raises:
        InputError: the format does not hold a grid, has no such files, or something else is at
            `path`.
    """
    path = Path(path)
    check_out(form, path)
    check_grids(form, weights.dims, {name: q.grid for name, q in quantized.items()}, half)
    for name, q in quantized.items():
        if not all_finite(get_grid(q.grid).dequantize(q)):
            raise InputError(f"{path}: {name} holds values on {q.grid} that are not all finite")
    kind_of(form, half).save(path, weights, quantized, float_dtype)
