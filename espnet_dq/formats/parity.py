"""Is what an exported file holds what training's forward pass used? Counted, bit by bit.

The file is read by `formats.ctranslate2`, which shares no code with `quant` or the writer. The
expected side is the training model's own `module.weight`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import WorkError
from espnet_dq.formats import ctranslate2
from espnet_dq.formats.ctranslate2 import Stored

# The numbers in a Whisper's file that are settings; the head counts come from the dimensions.
_SETTINGS = {
    "decoder/activation": 3,  # GELU
    "decoder/alibi": 0,
    "decoder/alibi_use_positive_positions": 0,
    "decoder/alignment_heads": 1,
    "decoder/alignment_layer": -1,
    "decoder/pre_norm": 1,
    "decoder/scale_alibi": 0,
    "decoder/scale_embeddings": 0,
    "decoder/start_from_zero_embedding": 0,
}


@dataclass(frozen=True)
class Reference:
    """What the file should hold, under openai-whisper's names.

    Attributes:
        dims: the model's dimensions.
        weights: each tensor as the forward pass uses it; on a grid: the dequantized float32.
        grids: name -> grid, for the tensors on one.
        scales: name -> (rows,) float32, for the same tensors. Needed because two neighbouring
            scales can have the same float32 reciprocal, and so the same dequantized weights.
    """

    dims: ModelDimensions
    weights: Mapping[str, Tensor]
    grids: Mapping[str, str]
    scales: Mapping[str, Tensor]


@dataclass
class Row:
    """One variable of the file.

    `integers` counts values (floats included) that differ from the reference, `scales` differing
    scales. `bytes` is 0 where the file stores the same data for another variable already.
    """

    name: str
    grid: str
    bits: int
    bytes: int
    integers: int = 0
    scales: int = 0


@dataclass
class Report:
    """All rows of a comparison."""

    rows: list[Row] = field(default_factory=list)

    @property
    def mismatched(self) -> int:
        """Differing values and scales in all variables."""
        return sum(row.integers + row.scales for row in self.rows)

    def to_dict(self) -> dict:
        """For JSON: totals and rows."""
        return {
            "tensors": len(self.rows),
            "bytes": sum(row.bytes for row in self.rows),
            "mismatched": self.mismatched,
            "rows": [asdict(row) for row in self.rows],
        }


def compare(
    variables: Mapping[str, np.ndarray], reference: Reference, source: Path | str
) -> Report:
    """Compare each variable of a CTranslate2 file with the training model.

    int8: `integer * (float32(1) / scale)` has to equal the reference's float32 value, and the
    scale the reference's, bit for bit. Floats: the reference cast to the file's type, bit for
    bit. Settings: the value.

    Args:
        variables: from `formats.ctranslate2.read_variables`.
        source: the file, for messages.

    Raises:
        InputError: the file does not have a Whisper's layout.
        WorkError: it is another Whisper: other dimensions, or a tensor is missing.
    """
    found = ctranslate2.read_dims(variables, source)
    if found != reference.dims:
        raise WorkError(f"{source}: holds {found}, expected {reference.dims}")
    pieces = ctranslate2.split(variables, source)
    missing = [name for name in reference.weights if name not in pieces]
    if missing:
        raise WorkError(f"{source}: {missing[0]} is missing")

    rows: dict[str, Row] = {}
    sizes = _sizes(variables)
    for name, stored in pieces.items():
        variable = stored.variable
        expected = _expected(name, stored, reference, source)
        if stored.scale is None:
            grid = stored.values.dtype.name
            differing = differing_bits(stored.values, expected.astype(stored.values.dtype))
            if name in reference.grids:  # should have been integers
                differing = expected.size
        else:
            grid = reference.grids.get(name, "none")
            # The sign of a zero does not count: training may round to -0.0, integers cannot.
            differing = int(np.count_nonzero(stored.dequantize() != expected))
            scale_row = rows.setdefault(
                f"{variable}_scale",
                Row(f"{variable}_scale", "float32", 32, sizes[f"{variable}_scale"]),
            )
            scale_row.scales += _differing_scales(name, stored, reference)
        bits = 8 * stored.values.itemsize
        row = rows.setdefault(variable, Row(variable, grid, bits, sizes[variable]))
        row.integers += differing
    for name, value in variables.items():
        if value.ndim == 0:
            rows[name] = _setting(name, value, reference.dims, sizes[name], source)
    return Report([rows[name] for name in sorted(rows)])


def _expected(name: str, stored: Stored, reference: Reference, source: Path | str) -> np.ndarray:
    """The reference's float32 values for a piece; keys have no bias, which is a bias of 0."""
    if name.endswith(".key.bias"):
        return np.zeros(stored.values.shape, np.float32)
    if name not in reference.weights:
        raise WorkError(f"{source}: {name} is not in the reference")
    expected = reference.weights[name].detach().cpu().float().numpy()
    if expected.shape != stored.values.shape:
        raise WorkError(
            f"{source}: {name} has shape {stored.values.shape}, expected {expected.shape}"
        )
    return expected


def _differing_scales(name: str, stored: Stored, reference: Reference) -> int:
    if name not in reference.scales:  # a tensor that training did not put on a grid
        return stored.scale.size
    return differing_bits(stored.scale, reference.scales[name].detach().cpu().float().numpy())


def differing_bits(found: np.ndarray, expected: np.ndarray) -> int:
    """How many values of two arrays of one type and shape differ in any bit."""
    width = f"u{found.itemsize}"
    found, expected = np.ascontiguousarray(found), np.ascontiguousarray(expected)
    return int(np.count_nonzero(found.view(width) != expected.view(width)))


def _setting(
    name: str, value: np.ndarray, dims: ModelDimensions, size: int, source: Path | str
) -> Row:
    heads = {"encoder/num_heads": dims.n_audio_head, "decoder/num_heads": dims.n_text_head}
    expected = (_SETTINGS | heads).get(name)
    if expected is None:
        raise WorkError(f"{source}: {name} is no setting of a Whisper")
    return Row(name, value.dtype.name, 8 * value.itemsize, size, int(value != expected))


def _sizes(variables: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Bytes of each variable; 0 for an alias, whose data is another variable's."""
    seen: set[int] = set()
    sizes = {}
    for name, values in variables.items():
        sizes[name] = 0 if id(values) in seen else values.nbytes
        seen.add(id(values))
    return sizes
