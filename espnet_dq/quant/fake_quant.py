"""Fake quantization: weights that are trained in float and seen on a grid.

`FakeQuantize` is a parametrization of `weight` (`torch.nn.utils.parametrize`), so that every
reader of `module.weight` sees grid values: linears, convolutions, and the token embedding in
both its uses. Gradients pass straight through (Bengio et al., arXiv 1308.3432).

A range that ends at its group's largest magnitude follows the weights: nothing is clipped and no
gradient is cut. A learned range ends at a part of it, its `clip`, one for each group:

- `lsq` (Esser et al., arXiv 1902.08153): the step is learned from clipping and from rounding;
- `pact` (Choi et al., arXiv 1805.06085, of activations): it is learned from clipping alone;
- `gptq`: as `lsq`, from where rounding by clips leaves weights and ranges (`quant.gptq.start`).

Those of `lsq` and `pact` start where the weights' squared error is least.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from espnet_dq.config import RANGES, known
from espnet_dq.errors import InputError
from espnet_dq.quant.grids import Grid
from espnet_dq.slices import row_slices

# An optimizer like Adam moves a parameter by about its learning rate. What it moves here is clip
# over this power of two (so that no bit is lost): a rate of 1e-5 moves a range by 0.06 % a step.
RATE = 64.0
# A range never vanishes: below this part of the largest magnitude no grid is of use.
LOWEST = 1 / 32


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, grid: Grid) -> Tensor:
        return grid.fake(weight)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


class _LearnedRange(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, clip: Tensor, grid: Grid, rounding: bool) -> Tensor:
        values = grid.fake(weight, clip)
        ctx.save_for_backward(weight, clip, values)
        ctx.grid, ctx.gradients = grid, partial(_gradients, grid, rounding)
        return values

    @staticmethod
    def backward(ctx, grad: Tensor):
        weight, clip, values = ctx.saved_tensors
        weight, values, part = (ctx.grid.groups(t) for t in (weight.float(), values, grad))
        passed, learned = torch.empty_like(part), torch.empty_like(clip)
        for rows in row_slices(weight):
            passed[rows], learned[rows] = ctx.gradients(
                weight[rows], clip[rows], values[rows], part[rows]
            )
        return passed.reshape(grad.shape), learned, None, None


def _gradients(
    grid: Grid, rounding: bool, weight: Tensor, clip: Tensor, values: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Of a loss by the weights [rows, groups, columns] and by their `clip` [rows, groups]."""
    top = weight.abs().amax(dim=2, keepdim=True)
    end = top * clip.unsqueeze(2)
    low, high = grid.ends(weight, clip)
    outside = (weight < low) | (weight > high)
    # d value / d end, by the end: the value where it is clipped, the rounding error where not.
    slope = torch.where(outside, values, values - weight if rounding else 0.0)
    slope = slope / end.clamp(min=torch.finfo(end.dtype).tiny)
    # Esser's factor keeps the step's gradient as large as that of one weight.
    factor = (weight.shape[2] * grid.top) ** -0.5
    return grad * ~outside, (grad * slope).sum(dim=2) * top.squeeze(2) * factor


@dataclass(frozen=True)
class _Kept:
    """A rounded weight, what it was made of, and its `_mark`."""

    of: list[tuple[torch.device, bytes]]
    values: Tensor
    mark: bytes

    @property
    def of_no_use(self) -> bool:
        """Of inference mode, which no backward pass takes."""
        return self.values.is_inference() and not torch.is_inference_mode_enabled()


def _mark(values: Tensor) -> bytes:
    """Another one for other content: the sums of its bits as integers, by row and column."""
    rows = values.detach().reshape(len(values), -1).contiguous()
    # Eight bytes at a time: torch adds narrower integers twenty times slower.
    width = rows.element_size()
    places = (width * rows.shape[1], width * rows.storage_offset())
    wide = all(place % 8 == 0 for place in places)
    bits = torch.int64 if wide else {2: torch.int16, 4: torch.int32, 8: torch.int64}[width]
    sums = [rows.view(bits).sum(dim=dim, dtype=torch.int64) for dim in (0, 1)]
    return torch.cat(sums).cpu().numpy().tobytes()


class FakeQuantize(nn.Module):
    """Map a weight to its grid values, with straight-through gradients.

    Without gradients a weight is rounded once and the result kept until the weight changes, in
    whatever way: what is written into `.data`, and by fused optimizers, counts in no version of
    torch's, so its content is looked at.

    Args:
        grid: where the values lie.
        ranges: `max`, or learned: `lsq`, `pact`, `gptq`.
        shape: of the weight; a learned range has one parameter a group, NaN until it is loaded or
            started. Raises `InputError` for a grid whose ranges cannot be learned.

    Attributes:
        share: of the way from the float weight to the grid that learning computes with, 0 to 1.
            Without gradients it is all of it.
    """

    def __init__(self, grid: Grid, ranges: str, shape: tuple[int, ...]):
        super().__init__()
        self.grid, self.ranges = grid, ranges
        known("ranges", ranges, RANGES)
        if ranges == "max":
            self.range = None
        else:
            self.range = nn.Parameter(torch.full(range_shape(grid, shape), torch.nan))
        self._kept: _Kept | None = None
        self.share = 1.0

    def forward(self, weight: Tensor) -> Tensor:
        """Weight of any shape, float; the result is float32 of the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            learns = weight.requires_grad or (self.range is not None and self.range.requires_grad)
            if learns and torch.is_grad_enabled():
                self.let_go()  # a step of the optimizer will follow
                values = self._learning(weight)
                return values if self.share == 1 else torch.lerp(weight, values, self.share)
            parts = [weight] if self.range is None else [weight, self.range]
            of = [(p.device, _mark(p)) for p in parts]
            if self._kept is None or self._kept.of != of or self._kept.of_no_use:
                self.let_go()
                clip = None if self.range is None else clip_of(self.range)
                values = self.grid.fake(weight, clip)
                self._kept = _Kept(of, values, _mark(values))
            return self._kept.values

    def let_go(self) -> None:
        """Round anew at the next look.

        Raises:
            InputError: somebody has written into what was kept, and it would be lost.
        """
        kept, self._kept = self._kept, None
        if kept is not None and kept.mark != _mark(kept.values):
            raise InputError(
                "what a layer sees of a weight on a grid was written to, and would be lost: change "
                "layer.parametrizations.weight.original, and merge adapters before the model is "
                "prepared"
            )

    def _learning(self, weight: Tensor) -> Tensor:
        if self.range is None:
            return _StraightThrough.apply(weight, self.grid)
        clip = _Held.apply(self.range)
        return _LearnedRange.apply(weight, clip, self.grid, self.ranges != "pact")


def set_share(root: nn.Module, share: float) -> None:
    """Let every weight on a grid below `root` go that share of the way to it while it learns."""
    for module in root.modules():
        if isinstance(module, FakeQuantize):
            module.share = share


class _Held(torch.autograd.Function):
    """`clip_of` whose gradient only moves a parameter at a bound back inside."""

    @staticmethod
    def forward(ctx, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return clip_of(parameter)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (parameter,) = ctx.saved_tensors
        clip = parameter * RATE
        stuck = ((clip >= 1) & (grad < 0)) | ((clip <= LOWEST) & (grad > 0))
        return grad.masked_fill(stuck, 0.0) * RATE


def clip_of(parameter: Tensor) -> Tensor:
    """The clip, in [LOWEST, 1], that a range's parameter stands for."""
    return (parameter.detach().float() * RATE).clamp(LOWEST, 1.0)


def range_shape(grid: Grid, shape: tuple[int, ...]) -> tuple[int, int]:
    """[rows, groups] of the learned ranges of a weight; raises `InputError` if it has none."""
    if not grid.learns:
        raise InputError(f"grid {grid.name} takes no learned range")
    return tuple(grid.groups(torch.empty(shape, device="meta")).shape[:2])


def least_error_clip(weight: Tensor, grid: Grid, cost: Tensor | None = None) -> Tensor:
    """The clip [rows, groups] of the least squared error, of 1 and its steps of 0.02 down to 0.1.

    Where learned ranges start. `cost` [columns] is what a column's squared error counts, 1 if not
    given.
    """
    groups = grid.groups(weight.detach().float())
    costs = 1.0 if cost is None else grid.groups(cost.expand_as(weight))
    best = torch.ones(groups.shape[:2], device=weight.device)
    least = torch.full_like(best, torch.inf)
    for percent in range(100, 9, -2):
        clip = torch.full_like(best, percent / 100)
        error = ((grid.groups(grid.fake(weight, clip)) - groups).square() * costs).sum(dim=2)
        best = torch.where(error < least, clip, best)
        least = torch.minimum(error, least)
    return best
