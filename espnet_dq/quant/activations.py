"""Activation grids: what a runtime's integer matrix products see of a layer's input.

Weights on a grid are half of an integer product; runtimes round its other side too, when they
run. Here the input of every linear layer whose weight is on a grid passes through a fake
quantizer, and so do the hidden states that the tied output projection reads. Gradients pass
straight through (Bengio et al., arXiv 1308.3432). Convolutions take their input in float.

- `int8_per_token`: CTranslate2's. Each row (position) by its largest magnitude.
- `q8_0_blocks`: ggml's, for q8_0, q5_0 and q4_0 weights alike. Blocks of 32 along the row.
- `int8_blocks`: ONNX Runtime's, for q8_0 weights. The same blocks, with scales in float32.
- `int8_rows`: of our ONNX graphs, for weights on `onnx_int8`. Each row by its largest magnitude.
- `int8_static`: one calibrated range for each layer, for processors that cannot measure a range
  as they run. `espnet_dq.bin.calibrate` writes the file of ranges.

Example usage::

    prepare(model, grids)                                # weights
    prepare_activations(model, grids, "int8_per_token")  # inputs of the same layers
"""

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_dq.config import QuantConfig
from espnet_dq.errors import InputError
from espnet_dq.quant.calibrate import linear_layers, load_ranges, on_input
from espnet_dq.quant.grids import Ggml

_TOP, _FLOOR = 127.0, 1e-30


def int8_per_token(x: Tensor) -> Tensor:
    """The values that CTranslate2's int8 products see of `x` (..., D), float32.

    `scale = 127 / max|row|` (1 for a row of zeros), `q = rint(x * scale + 128) - 128`, value
    `q * (1 / scale)`. The shift to unsigned bytes is there because the products of x86
    processors (oneDNN's and MKL's) want them; it decides values within 2^-17 of half a step. On
    Arm and CUDA CTranslate2 does not shift: such ties, and only they, may round otherwise.
    Without VNNI, x86 products of these bytes can also saturate at 16 bits; that is not modelled.
    Source: the rule of CTranslate2's kernels; its projection of known rows is the test.
    """
    x = x.float()
    low, high = x.aminmax(dim=-1, keepdim=True)
    top = torch.maximum(high, low.neg_())
    # A true division: `127.0 / top` is a reciprocal and a product in PyTorch, one ulp off.
    scale = torch.where(top == 0, 1.0, torch.full_like(top, _TOP) / top)
    scale.clamp_(max=torch.finfo(torch.float32).max)  # of the smallest denormals it is infinite
    return (x * scale).add_(128.0).round_().sub_(128.0).mul_(scale.reciprocal())


def q8_K_blocks(x: Tensor) -> Tensor:
    """ggml's rounding of what superblocks are multiplied by: 256 values share a float32 scale.

    `q = min(round_half_even(x * (-127 / m)), 127)`, m being the value of the largest magnitude with
    its sign, `q / (-127 / m)`. Source: ggml's `quantize_row_q8_K`.
    """
    blocks = x.float().reshape(-1, 256)
    high, low = blocks.amax(1, keepdim=True), blocks.amin(1, keepdim=True)
    inverse = -127.0 / torch.where(high > -low, high, low)
    q = (blocks * inverse).round_().clamp_(max=127)
    return torch.where(inverse.isfinite(), q * inverse.reciprocal(), 0.0).reshape(x.shape)


def q8_0_blocks(x: Tensor) -> Tensor:
    """The values that ggml's dot products see of `x` (..., D), float32; D a multiple of 32.

    ggml's q8_0 of the input's rows, by its reference quantizer (the `gguf` package's). The SIMD
    kernels that ggml runs compute `127 / max` instead of `1 / (max / 127)` and round half to
    even instead of away from zero: an integer may differ by one where it is close to a tie.
    """
    return Ggml(8).fake(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def int8_blocks(x: Tensor) -> Tensor:
    """The values that MatMulNBits with integer products sees of `x` (..., D), float32; 32 | D.

    Blocks of 32 along the row: `q = rint(x * (127 / max|block|))`, value `q * (max / 127)`, all in
    float32, 0 of a block of zeros. Source: the rule of ONNX Runtime's x86 kernels at accuracy level
    4; its product of known rows is the test.
    """
    blocks = x.float().reshape(-1, Ggml.BLOCK)
    top = blocks.abs().amax(dim=1, keepdim=True)
    inverse = torch.full_like(top, _TOP) / top  # true divisions
    q = (blocks * torch.where(inverse.isfinite(), inverse, 0.0)).round_()
    return q.mul_(top / torch.full_like(top, _TOP)).reshape(x.shape)


def int8_rows(x: Tensor) -> Tensor:
    """The values that integer products in our ONNX graphs see of `x` (..., D), float32.

    As `int8_blocks`, of whole rows: `q = rint(x * (127 / max|row|))`, value `q * (max / 127)`. Of
    a row of zeros, or nearly, max is 1e-30. Source: `espnet_dq.formats.onnx.graph`; its product
    of known rows in ONNX Runtime is the test.
    """
    x = x.float()
    top = x.abs().amax(dim=-1, keepdim=True).clamp_(min=_FLOOR)
    most = torch.full_like(top, _TOP)  # true divisions
    return (x * (most / top)).round_().mul_(top / most)


def int8_static(x: Tensor, top: float) -> Tensor:
    """`x`, float32, in 255 equal steps of a symmetric range that ends at `top`.

    `q = clamp(round_half_even(x / (top / 127)), -127, 127)`, as ONNX's QuantizeLinear within
    the range; beyond it values are clipped.
    """
    # In float32, and a true division: on a GPU PyTorch multiplies by a number's reciprocal.
    scale = torch.full((), top, device=x.device) / torch.full((), _TOP, device=x.device)
    return (x.float() / scale).round_().clamp_(-_TOP, _TOP).mul_(scale)


_BLOCKS = {"q8_0_blocks": q8_0_blocks, "int8_blocks": int8_blocks}


class _StraightThrough(torch.autograd.Function):
    """`fake(x)`, in the type of `x`; no gradient where a range that ends at `top` clips."""

    @staticmethod
    def forward(ctx, x: Tensor, fake: Callable[[Tensor], Tensor], top: float) -> Tensor:
        ctx.save_for_backward(x.abs() <= top if top < math.inf else None)
        return fake(x).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (inside,) = ctx.saved_tensors
        return (grad if inside is None else grad * inside), None, None


def prepare_activations(
    root: nn.Module,
    weights: Iterable[str],
    activations: str,
    activation_ranges: str | Path | None = QuantConfig.activation_ranges,
) -> None:
    """Register fake quantization of the input of every linear layer named in `weights`.

    Nothing is added to `root.state_dict()`.

    Args:
        root: holds `encoder` and `decoder`, openai-whisper's.
        weights: names, below `root`, of the weights that are on a grid. The token embedding's
            stands for the output projection; convolutions are left out.
        activations: one of `espnet_dq.config.ACTIVATIONS`.
        activation_ranges: of `int8_static`, and of it alone: the file with a range for each layer.

    Raises:
        InputError: an unknown name, ranges missing or not wanted, a layer that the grid does
            not fit or that has no range, or no layer at all.
    """
    # Refuses what does not fit.
    QuantConfig(activations=activations, activation_ranges=activation_ranges)
    if activations == "none":
        return
    layers = linear_layers(root, weights)
    if not layers:
        raise InputError(f"activations {activations}: no linear layer has its weight on a grid")
    ranges = activation_ranges
    tops = dict.fromkeys(layers, math.inf) if ranges is None else load_ranges(ranges)
    for layer in sorted({*tops} | {*layers}):
        if layer not in tops:
            raise InputError(f"{ranges}: no range for {layer}")
        try:
            root.get_submodule(layer)
        except AttributeError as e:
            raise InputError(f"{ranges}: {layer}: the model has no such layer") from e
    for layer, width in layers.items():
        if activations in _BLOCKS and width % Ggml.BLOCK:
            raise InputError(
                f"{layer}: activations {activations} do not fit rows of {width} values: "
                f"{width} is no multiple of {Ggml.BLOCK}"
            )
        if activations == "int8_static":
            fake = partial(int8_static, top=tops[layer])
        else:
            rows = {"int8_per_token": int8_per_token, "int8_rows": int8_rows}
            fake = (rows | _BLOCKS)[activations]
        on_input(root, layer, partial(fake_input, fake=fake, top=tops[layer]))


def fake_input(x: Tensor, fake: Callable[[Tensor], Tensor], top: float) -> Tensor:
    """`fake(x)` with straight-through gradients; see `_StraightThrough`."""
    return _StraightThrough.apply(x, fake, top)
