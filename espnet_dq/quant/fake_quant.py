"""Fake quantization: weights that are trained in float and seen on a grid.

`FakeQuantize` is a parametrization of `weight` (`torch.nn.utils.parametrize`), so that every
reader of `module.weight` sees grid values: linears, convolutions, and the token embedding in
both its uses. Gradients pass straight through (Bengio et al., arXiv 1308.3432): the scale
follows the largest value of its group, so nothing is clipped and no gradient is cut.
"""

import torch
from torch import Tensor, nn

from espnet_dq.quant.grids import Grid


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, grid: Grid) -> Tensor:
        return grid.fake(weight)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad, None


class FakeQuantize(nn.Module):
    """Map a weight to its grid values, with straight-through gradients.

    A frozen weight is rounded once and the result kept until the weight changes.
    """

    def __init__(self, grid: Grid):
        super().__init__()
        self.grid = grid
        self._frozen: tuple[tuple, Tensor] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        """Weight of any shape, float; the result is float32 of the same shape."""
        with torch.autocast(weight.device.type, enabled=False):
            if weight.requires_grad and torch.is_grad_enabled():
                return _StraightThrough.apply(weight, self.grid)
            key = (weight.data_ptr(), weight._version, weight.device)
            if self._frozen is None or self._frozen[0] != key:
                self._frozen = (key, self.grid.fake(weight))
            return self._frozen[1]
