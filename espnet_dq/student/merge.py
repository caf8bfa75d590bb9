"""The mean of the weights of Whispers that came from one: no training, and not a byte more.

Two models that were fine-tuned from one start lie in one basin of the loss: between them, weight by
weight, models are often better than either on what neither was trained for (Wortsman et al.,
"Robust fine-tuning of zero-shot models", CVPR 2022, between a start and what became of it; "Model
soups", ICML 2022, between several that became of it). With shares below 0 or above 1, which is what
adding and taking away task vectors comes to (Ilharco et al., ICLR 2023), it goes beyond them.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.whisper.weights import Weights


def merge(models: Sequence[Weights], shares: Sequence[float]) -> Weights:
    """Each weight's sum over the models, times their shares, which together are 1; in float32.

    Args:
        models: two or more, of the same dimensions and tokens, with the same settings of decoding.
        shares: one for each; any finite number.

    Raises:
        InputError: there are fewer than two models, or not as many shares, or these are not 1
            together, or the models are not of one kind.
    """
    if len(models) < 2 or len(models) != len(shares):
        raise InputError(f"{len(models)} models and {len(shares)} shares: two or more, one each")
    if not all(map(math.isfinite, shares)) or not math.isclose(math.fsum(shares), 1, abs_tol=1e-6):
        raise InputError(f"shares {' '.join(f'{s:g}' for s in shares)}: are not 1 together")
    first = models[0]
    for number, other in enumerate(models[1:], 2):
        if other.dims != first.dims:
            raise InputError(f"model {number} has {other.dims}, the first {first.dims}")
        if other.generation != first.generation:
            raise InputError(f"model {number} has other settings of decoding than the first")
    state = mean([m.state for m in models], shares)
    any_window = all(model.any_window for model in models)
    return Weights(first.dims, state, first.generation, any_window).check("the merged model")


def mean(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """Of each tensor that the first has, the sum of all, times their shares, in float32.

    Sums are in float64, so their order makes no difference that float32 would show. Of a model with
    a share of 0 nothing is in them, not even what is no number.
    """
    parts = [(s, share) for s, share in zip(states, shares, strict=True) if share]
    return {
        name: torch.stack([share * s[name].double() for s, share in parts]).sum(0).float()
        for name in states[0]
    }
