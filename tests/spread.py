"""How far float32 is from the numbers themselves, measured where a test runs.

Two programs, and one program on two processors, add in other orders. What that makes of logits
depends on the model, the input and the processor, so a bound is taken from all three.
"""

import copy

import torch
from torch import Tensor, nn
from whisper.model import LayerNorm, Whisper


@torch.no_grad()
def float32_error(model: Whisper, mel: Tensor, tokens: Tensor) -> float:
    """The largest error of the model's float32 logits, by those of the same weights in float64."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        if isinstance(module, LayerNorm):  # which computes in float32, whatever it is given
            module.__class__ = nn.LayerNorm
    return float((model(mel, tokens) - exact(mel.double(), tokens)).abs().max())


def bound(model: Whisper, mel: Tensor, tokens: Tensor) -> float:
    """What another float32 program's logits may differ by: this one's error and thrice that."""
    return 4 * float32_error(model, mel, tokens)


def rms(difference):
    """Root mean square of a tensor."""
    return float(difference.square().mean().sqrt())
