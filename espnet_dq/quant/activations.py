"""Activation grids: what a runtime's integer matrix products see of a layer's input.

Weights on a grid are half of an integer product; runtimes round its other side too, when they
run. Here the input of every linear layer whose weight is on a grid passes through a fake
quantizer, and so do the hidden states that the tied output projection reads. Gradients pass
straight through (Bengio et al., arXiv 1308.3432). Convolutions take their input in float.

- `int8_per_token`: CTranslate2's. Each row (position) by its largest magnitude.
- `q8_0_blocks`: ggml's, for q8_0, q5_0 and q4_0 weights alike. Blocks of 32 along the row.
- `int8_static`: one calibrated range for each layer, for processors that cannot measure a range
  as they run. `espnet_dq.bin.calibrate` writes the file of ranges.

Example usage::

    prepare(model, grids)                                # weights
    prepare_activations(model, grids, "int8_per_token")  # inputs of the same layers
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.quant.grids import Ggml

ACTIVATIONS = ("none", "int8_per_token", "q8_0_blocks", "int8_static")
_LARGEST_FILE = 1 << 20  # bytes; a line a layer is far below
_TOP = 127.0


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


def q8_0_blocks(x: Tensor) -> Tensor:
    """The values that ggml's dot products see of `x` (..., D), float32; D a multiple of 32.

    ggml's q8_0 of the input's rows, by its reference quantizer (the `gguf` package's). The SIMD
    kernels that ggml runs compute `127 / max` instead of `1 / (max / 127)` and round half to
    even instead of away from zero: an integer may differ by one where it is close to a tie.
    """
    return Ggml(8).fake(x.reshape(-1, x.shape[-1])).reshape(x.shape)


def int8_static(x: Tensor, top: float) -> Tensor:
    """`x`, float32, in 255 equal steps of a symmetric range that ends at `top`.

    `q = clamp(round_half_even(x / (top / 127)), -127, 127)`, as ONNX's QuantizeLinear within
    the range; beyond it values are clipped.
    """
    scale = torch.full((), top, device=x.device) / _TOP
    return (x.float() / scale).round_().clamp_(-_TOP, _TOP).mul_(scale)


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
    root: nn.Module, weights: Iterable[str], activations: str, ranges: str | Path | None = None
) -> None:
    """Register fake quantization of the input of every linear layer named in `weights`.

    Nothing is added to `root.state_dict()`.

    Args:
        root: holds `encoder` and `decoder`, openai-whisper's.
        weights: names, below `root`, of the weights that are on a grid. The token embedding's
            stands for the output projection; convolutions are left out.
        activations: one of `ACTIVATIONS`.
        ranges: of `int8_static`, and of it alone: the file with a range for each layer.

    Raises:
        InputError: an unknown name, ranges missing or not wanted, a layer that the grid does
            not fit or that has no range, or no layer at all.
    """
    if activations not in ACTIVATIONS:
        raise InputError(f"unknown activations '{activations}': known are {', '.join(ACTIVATIONS)}")
    if (activations == "int8_static") != (ranges is not None):
        raise InputError(
            f"activations {activations}: activation_ranges names a file of calibrated ranges, "
            "for int8_static and for it alone"
        )
    if activations == "none":
        return
    layers = _layers(root, weights)
    if not layers:
        raise InputError(f"activations {activations}: no linear layer has its weight on a grid")
    tops = dict.fromkeys(layers, math.inf) if ranges is None else load_ranges(ranges)
    for layer in sorted({*tops} | {*layers}):
        if layer not in tops:
            raise InputError(f"{ranges}: no range for {layer}")
        try:
            root.get_submodule(layer)
        except AttributeError as e:
            raise InputError(f"{ranges}: {layer}: the model has no such layer") from e
    for layer, width in layers.items():
        if activations == "q8_0_blocks" and width % Ggml.BLOCK:
            raise InputError(
                f"{layer}: activations q8_0_blocks do not fit rows of {width} values: "
                f"{width} is no multiple of {Ggml.BLOCK}"
            )
        if activations == "int8_static":
            fake = partial(int8_static, top=tops[layer])
        else:
            fake = {"int8_per_token": int8_per_token, "q8_0_blocks": q8_0_blocks}[activations]
        _on_input(root, layer, partial(_fake_input, fake=fake, top=tops[layer]))


def _fake_input(x: Tensor, fake: Callable[[Tensor], Tensor], top: float) -> Tensor:
    return _StraightThrough.apply(x, fake, top)


def _layers(root: nn.Module, weights: Iterable[str]) -> dict[str, int]:
    """{layer: width of its input} for the matrix products among `weights`."""
    widths = {}
    for name in weights:
        layer = name.removesuffix(".weight")
        module = root.get_submodule(layer)
        if isinstance(module, nn.Linear):
            widths[layer] = module.in_features
        elif isinstance(module, nn.Embedding):
            widths[layer] = module.embedding_dim
    return widths


def _on_input(root: nn.Module, layer: str, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Let a layer read `change(input)`.

    The output projection is no module: openai-whisper's decoder and our own forward pass
    multiply by the token embedding. Both read what the decoder's last LayerNorm gives, and
    nothing else does, so that is where its input is changed.
    """
    module = root.get_submodule(layer)
    if isinstance(module, nn.Embedding):
        last = root.get_submodule(layer.rpartition(".")[0] + ".ln")
        return last.register_forward_hook(lambda _, inputs, output: change(output))
    return module.register_forward_pre_hook(lambda _, inputs: (change(inputs[0]), *inputs[1:]))


class Recorder:
    """Measure the inputs of linear layers while the context is open.

    Attributes:
        tops: {layer: largest magnitude so far}.
        rows: {layer: rows (positions) seen so far}.

    Example usage::

        with Recorder(model, candidates(model.dims)) as recorder:
            model(mel, tokens)
        save_ranges("ranges.json", recorder, {"clips": 1})
    """

    def __init__(self, root: nn.Module, weights: Iterable[str]):
        self._root = root
        self.tops = dict.fromkeys(_layers(root, weights), 0.0)
        self.rows = dict.fromkeys(self.tops, 0)

    def __enter__(self) -> "Recorder":
        self._handles = [
            _on_input(self._root, layer, partial(self._take, layer)) for layer in self.tops
        ]
        return self

    def _take(self, layer: str, x: Tensor) -> Tensor:
        top = float(x.detach().abs().max())
        if not math.isfinite(top):
            raise InputError(f"{layer}: its input holds values that are not finite")
        self.tops[layer] = max(self.tops[layer], top)
        self.rows[layer] += x.numel() // x.shape[-1]
        return x

    def __exit__(self, *error) -> None:
        for handle in self._handles:
            handle.remove()


def save_ranges(path: str | Path, recorder: Recorder, about: Mapping[str, str | int]) -> None:
    """Write what was measured as JSON, `about` (where from) first, whole or not at all."""
    layers = {
        layer: {"max_abs": top, "rows": recorder.rows[layer]}
        for layer, top in recorder.tops.items()
    }
    with atomic(path) as tmp:
        tmp.write_text(json.dumps({**about, "layers": layers}, indent=1) + "\n", encoding="utf-8")


def load_ranges(path: str | Path) -> dict[str, float]:
    """{layer: end of its range} from a file of `save_ranges`.

    Raises `InputError` naming the file, and the layer whose range is not finite or not above 0.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{path}: larger than {_LARGEST_FILE} bytes, no file of ranges")
    try:
        layers = json.loads(path.read_text(encoding="utf-8"))["layers"]
        entries = {layer: entry["max_abs"] for layer, entry in layers.items()}
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"{path}: not a file of activation ranges") from e
    for layer, top in entries.items():
        if type(top) not in (int, float) or not 0 < top <= torch.finfo(torch.float32).max:
            raise InputError(f"{path}: {layer}: the range {top!r} is not finite and above 0")
    return {layer: float(top) for layer, top in entries.items()}
