"""What every grid is: integers and scales of a weight, and the values that they stand for."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.slices import row_slices
from espnet_dq.whisper.weights import all_finite


@dataclass(frozen=True)
class Quantized:
    """A weight on a grid.

    `integers` is int8, of the weight's own shape, 0 for the value 0 unless the grid has offsets.
    `scale` is what the file stores: float32 [rows, groups], for `ct2_int8` [rows], for ggml's grids
    float16 [rows, blocks], or [rows, blocks, 2] with offsets; what a value is made of is the grid's
    own rule.
    """

    grid: str
    integers: Tensor
    scale: Tensor


def matrix_of(weight: Tensor, grid: str) -> Tensor:
    """The weight as a float32 [rows, columns] matrix; refuses what no grid can hold."""
    if weight.dim() < 2:
        raise InputError(f"grid {grid} needs a matrix, not a tensor of shape {tuple(weight.shape)}")
    if not all_finite(weight):
        raise InputError(f"grid {grid}: the weight holds values that are not finite")
    return weight.detach().float().reshape(weight.shape[0], -1)


def in_slices(
    fake: Callable[[Tensor, Tensor | None], Tensor], weight: Tensor, clip: Tensor | None = None
) -> Tensor:
    """`fake(matrix, clip)` of a weight, some rows at a time, in the weight's shape."""
    matrix = weight.detach().float().reshape(weight.shape[0], -1)
    values = torch.empty_like(matrix)
    for rows in row_slices(matrix):
        values[rows] = fake(matrix[rows], None if clip is None else clip[rows])
    return values.reshape(weight.shape)


class Grid(ABC):
    """The values that weights may have, and what a file stores of them.

    Attributes:
        name: in options and files.
        bits: of an integer, at most 8.
        bottom: the smallest integer on the grid.
        matrices: whether it is for matrices only, so that convolutions stay in float.
        learns: whether a group's range can end below its largest magnitude, at a `clip`; such a
            grid has `groups`, see `CTranslate2Int8`.
    """

    matrices: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    name: str
    bits: int
    bottom: int

    @property
    def top(self) -> int:
        """The largest integer on the grid."""
        return 2 ** (self.bits - 1) - 1

    def span(self, columns: int) -> int:
        """How many of a row's columns have scales that none of the others has."""
        return columns

    @abstractmethod
    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the scales of a weight of this shape."""

    @abstractmethod
    def quantize(self, weight: Tensor, clip: Tensor | None = None) -> Quantized:
        """Integers int8 of the weight's shape, and scales; `clip` is None unless it `learns`.

        Raises `InputError` for a weight that the grid cannot hold.
        """

    @abstractmethod
    def dequantize(self, q: Quantized) -> Tensor:
        """The float32 weight on the grid."""

    def steps(self, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """float32 [rows, groups]: what an integer counts, and what 0 stands for if it is not 0.

        Groups are equal parts of a row; rows are 1 where all have the same. Raises `InputError` for
        a grid whose values do not lie in even steps.
        """
        raise InputError(f"grid {self.name} has no even steps")

    def ends(self, weight: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, groups, 1]: where the ranges of weights [rows, groups, columns] end at a clip."""
        end = weight.abs().amax(dim=2, keepdim=True) * clip.unsqueeze(2)
        return -end, end

    def fake(self, weight: Tensor, clip: Tensor | None = None) -> Tensor:
        """The float32 weight on the grid, which training computes with, bit for bit as stored."""
        return self.dequantize(self.quantize(weight, clip))
