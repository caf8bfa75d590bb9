"""Weight grids: the values that a deployed runtime can hold.

Each grid has one definition of its integers and scales; `quantize`, `dequantize` and `fake`
(what training's forward pass sees) all go through it, so what is trained is what is shipped.

A weight is seen as a matrix [rows, columns]: rows are output features; a conv1d weight
[out, in, k] is reshaped to [out, in * k]. All arithmetic is float32.

Example usage::

    grid = get_grid("ct2_int8")
    q = grid.quantize(weight)            # integers and scales, as the file holds them
    assert torch.equal(grid.dequantize(q), grid.fake(weight))
"""

import re
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.quant.ggml_grids import Ggml, GgmlK, GgmlOffset
from espnet_dq.quant.grid import Grid, Quantized, in_slices, matrix_of


@dataclass(frozen=True)
class CTranslate2Int8(Grid):
    """CTranslate2's int8: one scale a row, `scale = 127 / max|row|`, `q = rint(w * scale)`.

    The value is `q * (1 / scale)`, both in float32, and never `q * (max / 127)`: these differ.
    A row of zeros has scale 1. Source: the rule of CTranslate2's converter and its kernels.
    """

    name = "ct2_int8"
    bits = 8
    bottom = -127
    learns = True

    def groups(self, weight: Tensor) -> Tensor:
        """[rows, 1, columns]: what shares a scale lies along the last dimension."""
        return weight.reshape(weight.shape[0], 1, -1)

    def _scale(self, matrix: Tensor, clip: Tensor | None) -> Tensor:
        top = matrix.abs().amax(dim=1, keepdim=True)
        if clip is not None:
            top = top * clip
        # A true division: `127.0 / top` is a reciprocal and a product in PyTorch, one ulp off.
        scale = torch.where(top == 0, 1.0, torch.full_like(top, 127.0) / top)
        # The smallest denormals would give an infinite scale: the largest float32 stands in.
        return scale.clamp(max=torch.finfo(torch.float32).max)

    def _integers(self, matrix: Tensor, scale: Tensor) -> Tensor:
        return (matrix * scale).round_().clamp_(-127, 127)

    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the scales of a weight of this shape."""
        return torch.float32, shape[:1]

    def quantize(self, weight: Tensor, clip: Tensor | None = None) -> Quantized:
        """Integers [as the weight] int8 and scales [rows] float32; `clip` as in `fake`."""
        matrix = matrix_of(weight, self.name)
        scale = self._scale(matrix, clip)
        integers = self._integers(matrix, scale).to(torch.int8).reshape(weight.shape)
        return Quantized(self.name, integers, scale.squeeze(1))

    def dequantize(self, q: Quantized) -> Tensor:
        """The float32 weight that the runtime computes with."""
        matrix = q.integers.reshape(len(q.scale), -1).float()
        return (matrix * q.scale.reciprocal().unsqueeze(1)).reshape(q.integers.shape)

    def steps(self, scale: Tensor) -> tuple[Tensor, None]:
        """What an integer counts, [rows, 1]."""
        return scale.reciprocal().unsqueeze(1), None

    def fake(self, weight: Tensor, clip: Tensor | None = None) -> Tensor:
        """`dequantize(quantize(weight))` without the detour through int8.

        `clip` [rows, 1], in (0, 1]: the part of the row's largest magnitude that the range ends
        at, 1 if not given.
        """
        return in_slices(self._fake, weight, clip)

    def _fake(self, matrix: Tensor, clip: Tensor | None) -> Tensor:
        scale = self._scale(matrix, clip)
        return self._integers(matrix, scale).mul_(scale.reciprocal())


@dataclass(frozen=True)
class Uniform(Grid):
    """Symmetric uniform grid of 2 to 8 bits with one step a tensor, row, or group of a row.

    `step = max|group| / (2^(bits-1) - 1)`, `q = round_half_even(w / step)` clamped to
    +-(2^(bits-1) - 1), value `q * step`. This is DQ-Whisper's grid with its two faults mended:
    the maximum is of the absolute value, and the integers are clamped.
    """

    bits: int
    group: str | int = "row"  # "tensor", "row", or the number of columns in a group

    learns = True

    def __post_init__(self):
        if not 2 <= self.bits <= 8:
            raise InputError(f"grid {self.name}: {self.bits} bits; 2 to 8 are possible")

    @property
    def name(self) -> str:
        """`uniform4` (a step a row), `uniform4_tensor`, `uniform4_g64`."""
        suffix = {"row": "", "tensor": "_tensor"}.get(self.group, f"_g{self.group}")
        return f"uniform{self.bits}{suffix}"

    @property
    def bottom(self) -> int:
        """The smallest integer on the grid."""
        return -self.top

    def span(self, columns: int) -> int:
        """How many of a row's columns have steps that none of the others has."""
        return self.group if isinstance(self.group, int) else columns

    def groups(self, weight: Tensor) -> Tensor:
        """[rows, groups, columns of a group], [1, 1, all] a tensor: each has one step."""
        matrix = weight.reshape(weight.shape[0], -1)
        rows, columns = matrix.shape
        if self.group == "tensor":
            return matrix.reshape(1, 1, -1)
        size = columns if self.group == "row" else int(self.group)
        if columns % size:
            raise InputError(
                f"grid {self.name} does not fit a tensor with rows of {columns} values: "
                f"{columns} is no multiple of {size}"
            )
        return matrix.reshape(rows, columns // size, size)

    def _parts(self, groups: Tensor, clip: Tensor | None) -> tuple[Tensor, Tensor]:
        top = groups.abs().amax(dim=2, keepdim=True)
        # True divisions: on a GPU PyTorch multiplies by a number's reciprocal.
        step = top / torch.full_like(top, self.top)
        if clip is not None:
            step = step * clip.unsqueeze(2)
        # A step of 0 (a group of zeros, or of the smallest denormals) leaves only zeros.
        q = torch.where(step > 0, groups / step, 0.0).round_().clamp_(-self.top, self.top)
        return q, step

    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the steps of a weight of this shape."""
        if self.group == "tensor":
            return torch.float32, (1, 1)
        columns = prod(shape[1:])
        return torch.float32, (shape[0], 1 if self.group == "row" else columns // int(self.group))

    def quantize(self, weight: Tensor, clip: Tensor | None = None) -> Quantized:
        """Integers [as the weight] int8 and steps [rows, groups] float32 ([1, 1] a tensor).

        `clip` as in `fake`.
        """
        q, step = self._parts(self.groups(matrix_of(weight, self.name)), clip)
        return Quantized(self.name, q.to(torch.int8).reshape(weight.shape), step.squeeze(2))

    def dequantize(self, q: Quantized) -> Tensor:
        """The float32 weight on the grid."""
        groups = self.groups(q.integers.float())
        return (groups * q.scale.unsqueeze(2)).reshape(q.integers.shape)

    def steps(self, scale: Tensor) -> tuple[Tensor, None]:
        """The steps themselves."""
        return scale, None

    def fake(self, weight: Tensor, clip: Tensor | None = None) -> Tensor:
        """`dequantize(quantize(weight))` without the detour through int8.

        `clip` [rows, groups] ([1, 1] a tensor), in (0, 1]: the part of the group's largest
        magnitude that the range ends at, 1 if not given.
        """
        if self.group == "tensor":
            return self._fake(weight.detach().float(), clip).reshape(weight.shape)
        return in_slices(self._fake, weight, clip)

    def _fake(self, matrix: Tensor, clip: Tensor | None) -> Tensor:
        q, step = self._parts(self.groups(matrix), clip)
        return q.mul_(step).reshape(matrix.shape)


class OnnxInt8(Uniform):
    """ONNX Runtime's symmetric int8 weights, one scale an output feature.

    `scale = float32(float64(2 max|row|) / 254)`, 1 where that is below the smallest normal
    float32; `q = round_half_even(w / scale)` within +-127. Source: `compute_scale_zp` and
    `quantize_nparray` of ONNX Runtime's quantization tools.
    """

    learns = False

    def __init__(self):
        super().__init__(bits=8, group="row")

    @property
    def name(self) -> str:
        """`onnx_int8`."""
        return "onnx_int8"

    def _parts(self, groups: Tensor, clip: Tensor | None) -> tuple[Tensor, Tensor]:
        if clip is not None:
            raise InputError(f"grid {self.name} takes no learned range")
        top = groups.abs().amax(dim=2, keepdim=True).double()
        step = (top * 2 / torch.full_like(top, 254)).float()  # as in `Uniform`
        step = torch.where(step < torch.finfo(torch.float32).tiny, 1.0, step)
        return (groups / step).round_().clamp_(-self.top, self.top), step


# One by one; `uniform` is a family. Another one is a `Grid` that is added here.
_ALL = (CTranslate2Int8(), Ggml(8), GgmlOffset(5), Ggml(5), GgmlOffset(4), Ggml(4),
        *(GgmlK(bits) for bits in (6, 5, 4, 3, 2)), OnnxInt8())  # fmt: skip
GRIDS: dict[str, Grid] = {grid.name: grid for grid in _ALL}
_UNIFORM = re.compile(r"uniform(\d+)(?:_(tensor|g([1-9]\d*)))?")


def get_grid(name: str) -> Grid:
    """The grid called `name`: one of `GRIDS`, `uniform4`, `uniform4_tensor`, `uniform4_g64`.

    Raises `InputError` for a name that is no grid.
    """
    if name in GRIDS:
        return GRIDS[name]
    if m := _UNIFORM.fullmatch(name):
        group = int(m[3]) if m[3] else m[2] or "row"
        return Uniform(int(m[1]), group)
    raise InputError(
        f"unknown grid '{name}': known are {', '.join(GRIDS)} and uniform2 to uniform8, "
        "the latter also as uniform4_tensor or uniform4_g64"
    )


def few_bits(name: str) -> bool:
    """Whether rounding to this grid by clips pays: at 8 bits what is gained is not worth it."""
    return get_grid(name).bits < 8
