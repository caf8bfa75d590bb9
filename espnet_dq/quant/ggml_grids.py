"""ggml's grids: blocks of 32 columns or superblocks of 256, and the scales that its files hold."""

from abc import abstractmethod
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.quant.grid import Grid, Quantized, in_slices, matrix_of


def _largest(blocks: Tensor) -> Tensor:
    """[..., 1]: of each block the value of the largest magnitude, of equal ones the first."""
    high, low = blocks.amax(dim=-1, keepdim=True), blocks.amin(dim=-1, keepdim=True)
    top = torch.where(high > -low, high, low)
    if (tie := (high == -low).squeeze(-1)).any():
        tied = blocks[tie]
        top[tie] = tied.gather(-1, tied.abs().argmax(dim=-1, keepdim=True))
    return top


def _inverse(scale: Tensor) -> Tensor:
    """One over scales; 0 where there is none, of zero or of the smallest denormals."""
    inverse = torch.ones_like(scale) / scale
    return torch.where(inverse.isfinite(), inverse, 0.0)


class _Blocks(Grid):
    """What ggml's grids share: blocks of `BLOCK` columns and float16 scales."""

    BLOCK: ClassVar[int]
    matrices = True

    def _blocks(self, matrix: Tensor) -> Tensor:
        """[rows, blocks, columns of a block]."""
        rows, columns = matrix.shape
        if columns % self.BLOCK:
            raise InputError(
                f"grid {self.name} does not fit a tensor with rows of {columns} values: "
                f"{columns} is no multiple of {self.BLOCK}"
            )
        return matrix.reshape(rows, columns // self.BLOCK, self.BLOCK)

    def span(self, columns: int) -> int:
        """How many of a row's columns have scales that none of the others has."""
        return self.BLOCK

    @abstractmethod
    def _scale(self, blocks: Tensor, clip: Tensor | None) -> Tensor:
        """float32 scales of blocks, of the shape that `scale_like` says."""

    @abstractmethod
    def _integers(self, blocks: Tensor, scale: Tensor) -> Tensor:
        """Around 0, float32 [rows, blocks, columns], by the float32 scales."""

    @abstractmethod
    def _values(self, integers: Tensor, scale: Tensor) -> Tensor:
        """What integers stand for, by the float16 scales."""

    def quantize(self, weight: Tensor, clip: Tensor | None = None) -> Quantized:
        """Integers [as the weight] int8, and float16 scales as in `scale_like`.

        `clip` [rows, blocks] as in `Grid.quantize`. Raises `InputError` also when a scale is beyond
        float16.
        """
        blocks = self._blocks(matrix_of(weight, self.name))
        scale = self._scale(blocks, clip)
        halved = scale.half()
        if not halved.isfinite().all():
            raise InputError(f"grid {self.name}: a value is too large for a float16 scale")
        integers = self._integers(blocks, scale).to(torch.int8)
        return Quantized(self.name, integers.reshape(weight.shape), halved)

    def dequantize(self, q: Quantized) -> Tensor:
        """The float32 weight that the runtime computes with."""
        blocks = self._blocks(q.integers.reshape(q.integers.shape[0], -1).float())
        return self._values(blocks, q.scale).reshape(q.integers.shape)

    def fake(self, weight: Tensor, clip: Tensor | None = None) -> Tensor:
        """`dequantize(quantize(weight))` without the detour through int8."""
        return in_slices(self._fake, weight, clip)

    def _fake(self, matrix: Tensor, clip: Tensor | None) -> Tensor:
        blocks = self._blocks(matrix)
        scale = self._scale(blocks, clip)
        return self._values(self._integers(blocks, scale), scale.half()).reshape(matrix.shape)


@dataclass(frozen=True)
class Ggml(_Blocks):
    """ggml's blocks of 32 along the row, with a float16 scale `d`: q8_0, q5_0 and q4_0.

    The integer is chosen with the float32 `d`, the value is computed with the stored float16
    one: `q * float32(float16(d))`. q8_0: `d = max|block| / 127`, half rounds away from zero.
    q5_0 and q4_0: `d = m / -2^(bits-1)`, where m is the value of the largest magnitude with its
    sign (of equal ones the first), and `q = min(2^bits - 1, int(w * (1 / d) + 2^(bits-1) + 0.5))`
    less 2^(bits-1). Source: ggml's reference quantizers; the `gguf` package is their NumPy twin.
    With a `clip` [rows, blocks] both `d` are that part of it, which files hold like any other.
    """

    bits: int

    BLOCK = 32
    learns = True

    @property
    def name(self) -> str:
        """`ggml_q8_0`, `ggml_q5_0`, `ggml_q4_0`."""
        return f"ggml_q{self.bits}_0"

    @property
    def bottom(self) -> int:
        """The smallest integer on the grid; only q8_0 is symmetric."""
        return -127 if self.bits == 8 else -(2 ** (self.bits - 1))

    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the scales of a weight of this shape."""
        return torch.float16, (shape[0], prod(shape[1:]) // self.BLOCK)

    def groups(self, weight: Tensor) -> Tensor:
        """[rows, blocks, columns of a block]."""
        return self._blocks(weight.reshape(weight.shape[0], -1))

    def steps(self, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """The scales, as float32."""
        return scale.float(), None

    def ends(self, weight: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
        """[rows, blocks, 1]: where ranges end; on the side of the largest value farther out."""
        if self.bits == 8:
            return super().ends(weight, clip)
        far = _largest(weight) * clip.unsqueeze(2)
        near = far * (self.top / self.bottom)
        return torch.minimum(far, near), torch.maximum(far, near)

    def _scale(self, blocks: Tensor, clip: Tensor | None) -> Tensor:
        top = _largest(blocks).squeeze(2)
        if clip is not None:
            top = top * clip
        if self.bits == 8:
            return top.abs() / torch.full_like(top, 127.0)  # a true division, as in `Uniform`
        return top / torch.full_like(top, -float(2 ** (self.bits - 1)))

    def _integers(self, blocks: Tensor, scale: Tensor) -> Tensor:
        x = blocks * _inverse(scale).unsqueeze(2)
        if self.bits == 8:
            rest = x.abs()
            whole = rest.floor()
            rest.sub_(whole).mul_(2).floor_()  # 1 from a half on
            return whole.add_(rest).clamp_(max=self.top).copysign_(x)
        half = 2 ** (self.bits - 1)
        return x.add_(half + 0.5).trunc_().clamp_(0, 2 * half - 1).sub_(half)

    def _values(self, integers: Tensor, scale: Tensor) -> Tensor:
        return integers * scale.float().unsqueeze(2)


class GgmlOffset(Ggml):
    """ggml's blocks of 32 with a float16 scale `d` and a float16 offset `m`: q5_1 and q4_1.

    `m = min(block)`, `d = (max - min) / (2^bits - 1)`, `q = int((w - m) * (1 / d) + 0.5)`, at most
    2^bits - 1, with the float32 `d` and `m`; the value is computed with the stored float16 ones:
    `q * float32(d) + float32(m)`. `Quantized` holds q less 2^(bits-1), and d and m of each block.
    Source: ggml's reference quantizers; the `gguf` package is their NumPy twin.
    """

    learns = False

    @property
    def name(self) -> str:
        """`ggml_q5_1`, `ggml_q4_1`."""
        return f"ggml_q{self.bits}_1"

    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the scales and offsets of a weight of this shape."""
        return torch.float16, (shape[0], prod(shape[1:]) // self.BLOCK, 2)

    def steps(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """The scales and, since `Quantized` counts from the middle, the offsets of that."""
        d, m = scale.float().unbind(dim=2)
        return d, m + 2 ** (self.bits - 1) * d

    def _scale(self, blocks: Tensor, clip: None) -> Tensor:
        least = blocks.amin(dim=2)
        spread = blocks.amax(dim=2) - least
        d = spread / torch.full_like(spread, float(2**self.bits - 1))  # as in `Uniform`
        return torch.stack([d, least], dim=2)

    def _integers(self, blocks: Tensor, scale: Tensor) -> Tensor:
        d, m = scale.split(1, dim=2)
        x = (blocks - m) * _inverse(d)
        half = 2 ** (self.bits - 1)
        return x.add_(0.5).trunc_().clamp_(0, 2 * half - 1).sub_(half)

    def _values(self, integers: Tensor, scale: Tensor) -> Tensor:
        d, m = scale.float().split(1, dim=2)
        q = integers + 2 ** (self.bits - 1)
        return q.mul_(d).add_(m)  # two operations, and two roundings


@dataclass(frozen=True)
class GgmlK(_Blocks):
    """ggml's superblocks of 256 along the row: q6_K, q5_K, q4_K, q3_K and q2_K.

    A superblock has groups of 32 (q5_K, q4_K) or 16 columns. The scale of a group is a small
    integer `s` times a float16 `d` of the superblock. q6_K and q3_K: the value is `d * s * q`, q
    from -2^(bits-1) on. The others have offsets, too: `d * s * q - e * t`, q from 0 on, with a
    float16 `e` and small integers `t`. Products in this order, in float32.

    How ggml chooses integers and scales is a search that runtimes do not know of; here:

    - with offsets: a group reaches from `l = min(group, 0)` to its maximum, `(max - l) / (2^bits -
      1)` is its wish for `d * s` and `-l` that for `e * t`; d and e are the largest wishes over the
      largest small integer, in float16, s and t the wishes over d and e, rounded;
    - without: the wish is `m / -2^(bits-1)`, m being the value of the largest magnitude with its
      sign, and d is the largest wish over the smallest small integer, both with their signs;
    - q is the nearest in both.

    `Quantized` holds q around 0 and float16 [rows, superblocks, 1 + groups], d and each s, or
    [rows, superblocks, 2 + 2 groups]: d, e, each s, each t. Source of the layout: ggml's
    `dequantize_row_q*_K`; the `gguf` package is their NumPy twin.
    """

    bits: int

    BLOCK = 256

    @property
    def name(self) -> str:
        """`ggml_q6_K` to `ggml_q2_K`."""
        return f"ggml_q{self.bits}_K"

    @property
    def bottom(self) -> int:
        """The smallest integer on the grid."""
        return -(2 ** (self.bits - 1))

    @property
    def offsets(self) -> bool:
        """Whether groups have them."""
        return self.bits in (2, 4, 5)

    @property
    def group(self) -> int:
        """Columns of a group."""
        return 32 if self.bits in (4, 5) else 16

    @property
    def small(self) -> int:
        """The largest of the small integers; without offsets it is less one, of scales below 0."""
        return {2: 15, 3: 32, 4: 63, 5: 63, 6: 128}[self.bits]

    def scale_like(self, shape: tuple[int, ...]) -> tuple[torch.dtype, tuple[int, ...]]:
        """Type and shape of the scales, small integers included."""
        groups = self.BLOCK // self.group
        count = 2 + 2 * groups if self.offsets else 1 + groups
        return torch.float16, (shape[0], prod(shape[1:]) // self.BLOCK, count)

    def _blocks(self, matrix: Tensor) -> Tensor:
        """[rows, superblocks, groups, columns of a group]."""
        try:
            blocks = super()._blocks(matrix)
        except InputError as e:
            raise InputError(f"{e}; {Ggml(4).name} takes multiples of {Ggml.BLOCK}") from e
        return blocks.unflatten(2, (-1, self.group))

    def steps(self, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scale and offset of each group, the latter where `Quantized` has 0."""
        step, offset = (None if x is None else x.flatten(1) for x in self._split(scale))
        return step, None if offset is None else 2 ** (self.bits - 1) * step - offset

    def _scale(self, blocks: Tensor, clip: None) -> Tensor:
        # d and e are what float16 makes of them, since the small integers are chosen by those.
        if not self.offsets:
            wish = _largest(blocks).squeeze(3) / -float(2 ** (self.bits - 1))
            d = _over(_largest(wish), torch.full_like(wish[..., :1], -float(self.small)))
            return torch.cat([d, self._small(wish, d, -self.small, self.small - 1)], dim=2)
        least = blocks.amin(dim=3).clamp_(max=0)
        span = blocks.amax(dim=3) - least
        step = span / torch.full_like(span, float(2**self.bits - 1))  # as in `Uniform`
        d, e = (
            _over(wish.amax(dim=2, keepdim=True), torch.full_like(wish[..., :1], self.small))
            for wish in (step, -least)
        )
        s, t = (self._small(w, f, 0, self.small) for w, f in ((step, d), (-least, e)))
        return torch.cat([d, e, s, t], dim=2)

    @staticmethod
    def _small(wish: Tensor, factor: Tensor, low: int, high: int) -> Tensor:
        # No -0.0, which the file's whole numbers do not have.
        return _over(wish, factor, halved=False).round_().clamp_(low, high).add_(0.0)

    def _split(self, scale: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scale of each group, [rows, superblocks, groups, 1], and offset, if there are any."""
        scale, count = scale.float(), self.BLOCK // self.group
        if not self.offsets:
            return (scale[..., :1] * scale[..., 1:])[..., None], None
        d, e, s, t = scale.split([1, 1, count, count], dim=2)
        return (d * s)[..., None], (e * t)[..., None]

    def _integers(self, blocks: Tensor, scale: Tensor) -> Tensor:
        step, offset = self._split(scale)
        half = 2 ** (self.bits - 1)
        if offset is None:
            return _over(blocks, step, halved=False).round_().clamp_(-half, half - 1)
        q = _over(blocks + offset, step, halved=False).round_()
        return q.clamp_(0, 2 * half - 1).sub_(half)

    def _values(self, integers: Tensor, scale: Tensor) -> Tensor:
        step, offset = self._split(scale)
        if offset is None:
            return integers * step
        return (integers + 2 ** (self.bits - 1)).mul_(step).sub_(offset)


def _over(value: Tensor, by: Tensor, halved: bool = True) -> Tensor:
    """`value / by`, 0 where that is by 0; as float16 holds it, if `halved`."""
    found = torch.where(by == 0, 0.0, value / by)
    return found.half().float() if halved else found
