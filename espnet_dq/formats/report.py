"""What `verify` counts: an exported file against the model that training computed with.

Each format's `verify` compares its tensors, and shares no code with `quant/` or the writers of
tensors. What stands beside these (settings, vocabularies, a graph's nodes) is compared with what
the writer would write for the same model.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import WorkError, one_line
from espnet_dq.whisper.generation import Generation

# What a row is; of a tensor in float it is why (`float_kind`).
ON_GRID = "on a grid"
SCALES = "scales of a grid"
OPEN = "could be on a grid"
OTHER = "no weight"
BESIDE = "beside the weights"  # a file, a graph, or what holds for all tensors together
RUN = "run"  # what a runtime computes from the file
NO_TENSORS = (BESIDE, RUN)


@dataclass(frozen=True)
class Reference:
    """What the file should hold, under openai-whisper's names.

    Attributes:
        dims: the model's dimensions.
        weights: each tensor as the forward pass uses it; on a grid: the dequantized float32.
        grids: name -> grid, for the tensors on one.
        scales: name -> (rows,) float32, for the same tensors. Needed because two neighbouring
            scales can have the same float32 reciprocal, and so the same dequantized weights.
        floats: each tensor before it was put on a grid.
        generation: the model's own settings of decoding; None: OpenAI's.
        any_window: whether the model was trained in windows of every length.
    """

    dims: ModelDimensions
    weights: Mapping[str, Tensor]
    grids: Mapping[str, str]
    scales: Mapping[str, Tensor]
    floats: Mapping[str, Tensor]
    generation: Generation | None = None
    any_window: bool = False


@dataclass
class Row:
    """One variable of the file.

    Attributes:
        name: the file's.
        shape: of its values, however they are packed.
        grid: the grid, or the type of what is on none.
        bits: of a value.
        bytes: with the scales, where the file keeps those in the same variable; 0 where it stores
            the same data for another variable already.
        kind: `ON_GRID`, `SCALES`, `OTHER`, or why it is in float.
        error: of what is on a grid, see `rounding_error`.
        integers: values (floats, settings, files and positions included) that differ from the
            reference.
        scales: scales that do.
        note: what differs, or what was not compared; for people.
    """

    name: str
    shape: tuple[int, ...]
    grid: str
    bits: int
    bytes: int
    kind: str
    error: float | None = None
    integers: int = 0
    scales: int = 0
    note: str = ""


@dataclass
class Report:
    """All rows of a comparison.

    Attributes:
        rows: one a variable, then what holds for the file as a whole.
        path: the file, for messages.
        sizes: `bytes_on_disk`, and `paper_rule_bytes` (counted), of the whole model.
    """

    rows: list[Row] = field(default_factory=list)
    path: str = "the file"
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def mismatched(self) -> int:
        """Differing values and scales in all variables."""
        return sum(row.integers + row.scales for row in self.rows)

    def check(self) -> "Report":
        """Return self; raise `WorkError` if anything differs."""
        if self.mismatched:
            first = next(row.name for row in self.rows if row.integers + row.scales)
            raise WorkError(f"{self.path}: {self.mismatched} values differ, the first in {first}")
        return self

    def to_dict(self) -> dict:
        """For JSON: totals (`grid_bytes`: integers and scales; `float_bytes`: weights) and rows."""
        on_grid = sum(row.bytes for row in self.rows if row.kind in (ON_GRID, SCALES))
        other = sum(row.bytes for row in self.rows if row.kind == OTHER)
        tensors = [row for row in self.rows if row.kind not in NO_TENSORS]
        total = sum(row.bytes for row in tensors)
        return self.sizes | {
            "tensors": len(tensors),
            "bytes": total,
            "grid_bytes": on_grid,
            "float_bytes": total - on_grid - other,
            "mismatched": self.mismatched,
            "rows": [asdict(row) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """For people: a line for each row, notes, and totals."""
        names = [one_line(row.name) for row in self.rows]
        width = max(map(len, names))
        head = "shape  grid      bits      bytes    error  integers  scales  kind"
        found = [f"{'name':{width}}  {head:>78}"]
        for row, name in zip(self.rows, names, strict=True):
            shape = "x".join(map(str, row.shape)) or "-"
            error = "-" if row.error is None else f"{row.error:.5f}"
            found.append(
                f"{name:{width}}  {shape:>12}  {row.grid:9} {row.bits:4} "
                f"{row.bytes:10}  {error:>7} {row.integers:9} {row.scales:7}  {row.kind}"
            )
        total = self.to_dict()
        kinds = Counter(row.kind for row in self.rows)
        no_float = (ON_GRID, SCALES, OTHER, *NO_TENSORS)
        why = [f"{n} {kind}" for kind, n in kinds.items() if kind not in no_float]
        grid_bytes = total["grid_bytes"]
        found.append(f"on a grid: {kinds[ON_GRID]} tensors, {grid_bytes} bytes with their scales")
        found.append(f"in float: {', '.join(why) or 'nothing'}; {total['float_bytes']} bytes")
        left = [row.name for row in self.rows if row.kind == OPEN]
        if kinds[ON_GRID] and left:  # of a float file nothing was asked for
            found.append(f"in float although it could be on a grid: {', '.join(left)}")
        found += [f"{row.name}: {row.note}" for row in self.rows if row.note]
        found.append(
            f"on disk: {total['bytes_on_disk']} bytes; "
            f"by the paper's rule (counted): {total['paper_rule_bytes']} bytes"
        )
        found.append(
            f"{total['tensors']} tensors, {total['bytes']} bytes, {total['mismatched']} mismatched"
        )
        return [one_line(line) for line in found]


def float_kind(name: str) -> str:
    """Why a tensor (openai-whisper's name) is in float, or `OPEN` where nothing says so."""
    layer, _, leaf = name.rpartition(".")
    if leaf == "positional_embedding":
        return "positional embedding"
    if re.search(r"[._]ln(_post)?$", layer):
        return "LayerNorm"
    return "bias" if leaf == "bias" else OPEN


def rounding_error(stored: Mapping[str, np.ndarray], floats: Mapping[str, Tensor]) -> float | None:
    """||stored - float|| / ||float||, Frobenius norms over all tensors of `stored` together.

    Of zeros it is ||stored||. None where a damaged file gives no finite number.

    Args:
        stored: openai-whisper's name -> the values in the file, dequantized.
        floats: name -> what they were made from, see `Reference`.
    """
    noise = signal = 0.0
    with np.errstate(all="ignore"):
        for name, values in stored.items():
            plain = floats[name].detach().cpu().float().numpy()
            noise += float(np.square(values - plain).sum(dtype=np.float64))
            signal += float(np.square(plain).sum(dtype=np.float64))
    error = math.sqrt(noise / (signal or 1.0))
    return error if math.isfinite(error) else None


def as_numpy(tensor: Tensor) -> np.ndarray:
    """Values as stored; of a float type that NumPy lacks, float64, which no file of ours has."""
    plain = not tensor.is_floating_point() or tensor.dtype in (torch.float16, torch.float32)
    return (tensor if plain else tensor.double()).detach().contiguous().numpy()


def float_row(name: str, values: np.ndarray, expected: np.ndarray, reference: Reference) -> Row:
    """The row of a tensor that the file holds in float; all of it differs if a grid was wanted."""
    wanted = values.dtype in (np.float16, np.float32) and values.shape == expected.shape
    if name in reference.grids or not wanted:
        wrong = expected.size
    else:
        wrong = differing_bits(values, cast(expected, values.dtype))
    dtype = values.dtype
    return Row(name, values.shape, dtype.name, 8 * dtype.itemsize, values.nbytes, float_kind(name),
               integers=wrong)  # fmt: skip


def cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`values` in a file's type; what is beyond it becomes infinite, and then counts as wrong."""
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def differing_bits(found: np.ndarray, expected: np.ndarray) -> int:
    """How many values of two arrays of one type and shape differ in any bit, or are not finite."""
    width = f"u{found.itemsize}"
    found, expected = np.ascontiguousarray(found), np.ascontiguousarray(expected)
    return int(np.count_nonzero((found.view(width) != expected.view(width)) | ~np.isfinite(found)))


def differing_values(found: np.ndarray, expected: np.ndarray) -> int:
    """How many values on a grid differ or are not finite.

    The sign of a zero does not count: training may round to -0.0, integers have none.
    """
    return int(np.count_nonzero((found != expected) | ~np.isfinite(found)))


def float_types(types: Mapping[str, str]) -> Row:
    """The row of what floats are stored in: all in float16 or all in float32.

    Runtimes choose what they compute in by the types in a file, so a mixture is no model of ours.

    Args:
        types: tensor -> name of its type, for the tensors on no grid.
    """
    kinds = sorted({*types.values()})
    odd = kinds[1:] if kinds[:1] in (["float16"], ["float32"]) else kinds
    wrong = sorted(name for name, kind in types.items() if kind in odd)
    note = f"{wrong[0]} is {types[wrong[0]]}: not all are float16 or all float32" if wrong else ""
    return Row("types of floats", (len(types),), "text", 8, 0, BESIDE, integers=len(wrong),
               note=note)  # fmt: skip
