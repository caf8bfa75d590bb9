"""Write a Whisper in the format of a runtime: which format holds which grid."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from espnet_dq.errors import InputError
from espnet_dq.formats import ctranslate2_writer, ggml_writer, openai, packed
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.grids import get_grid

# None: any grid. `packed` files hold its integers, `openai` files its values, as float32.
GRIDS: dict[str, tuple[str, ...] | None] = {
    "openai": None,
    "ct2": (ctranslate2_writer.GRID,),
    "ggml": tuple(ggml_writer.GRIDS),
    "packed": None,
}


def check_grids(form: str, grids: Iterable[str]) -> None:
    """Raise `InputError` for a grid whose integers a format does not hold."""
    for grid in sorted({*grids}):
        get_grid(grid)
        if (known := GRIDS[form]) is not None and grid not in known:
            raise InputError(f"grid {grid} does not fit {form}, which holds {', '.join(known)}")


def write(
    form: str, path: Path | str, weights: Weights, grids: Mapping[str, str], float_dtype: str
) -> None:
    """Write `weights`, the tensors named in `grids` on their grid, as integers where possible.

    Args:
        form: `openai`, `ggml`, `packed` (a file), `ct2` (a folder).
        path: where; appears whole or not at all.
        weights: float weights.
        grids: openai-whisper's name -> grid.
        float_dtype: `float16` or `float32`, for what is on no grid (`openai` writes float32
            if anything is on one, since float16 would move it off).

    Raises:
        InputError: the format does not hold a grid, or the path is of the wrong kind.
    """
    path = Path(path)
    if form == "ct2" and path.is_file():
        raise InputError(f"{path}: is a file, ct2 is a folder")
    if form != "ct2" and path.is_dir():
        raise InputError(f"{path}: is a folder, {form} is a file")
    check_grids(form, grids.values())
    if form == "openai":
        values = {n: get_grid(g).fake(weights.state[n]) for n, g in grids.items()}
        dtype = torch.float32 if grids else getattr(torch, float_dtype)
        openai.save(path, Weights(weights.dims, weights.state | values), dtype=dtype)
        return
    quantized = {}
    for name, grid in grids.items():
        try:
            quantized[name] = get_grid(grid).quantize(weights.state[name])
        except InputError as e:
            raise InputError(f"{name}: {e}") from e
    writers = {"ct2": ctranslate2_writer, "ggml": ggml_writer, "packed": packed}
    writers[form].save(path, weights, quantized, float_dtype=float_dtype)
