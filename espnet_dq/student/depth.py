"""Cut a Whisper to fewer layers or a shorter window; what stays is the source's, bit for bit.

Distil-Whisper (arXiv 2311.00430) keeps the first and the last layer and spaces the others between
them as far apart as they go.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from espnet_dq.errors import InputError
from espnet_dq.whisper.forward import SAMPLE_RATE, SAMPLES_PER_POSITION
from espnet_dq.whisper.weights import Weights


def shallow(weights: Weights, encoder: Sequence[int], decoder: Sequence[int]) -> Weights:
    """The same Whisper with these layers only, counted from 0, in this order."""
    state = {name: w for name, w in weights.state.items() if ".blocks." not in name}
    for side, layers in (("encoder", encoder), ("decoder", decoder)):
        for new, old in enumerate(layers):
            start = f"{side}.blocks.{old}."
            for name in (name for name in weights.state if name.startswith(start)):
                state[f"{side}.blocks.{new}.{name.removeprefix(start)}"] = weights.state[name]
    dims = replace(weights.dims, n_audio_layer=len(encoder), n_text_layer=len(decoder))
    return replace(weights, dims=dims, state=state, generation=None).check("the cut model")


def shorten(weights: Weights, seconds: int) -> Weights:
    """The same Whisper, which hears `seconds` at a time: the first encoder positions only.

    faster-whisper feeds whole seconds. Raises `InputError` unless it is 1 or more, and fewer than
    the source's.
    """
    positions = seconds * SAMPLE_RATE // SAMPLES_PER_POSITION
    if not 0 < positions < weights.dims.n_audio_ctx:
        own = weights.dims.n_audio_ctx * SAMPLES_PER_POSITION / SAMPLE_RATE
        raise InputError(f"{seconds}: the window must be 1 s or more, and less than {own:g} s")
    name = "encoder.positional_embedding"
    state = weights.state | {name: weights.state[name][:positions].clone()}
    dims = replace(weights.dims, n_audio_ctx=positions)
    return replace(weights, dims=dims, state=state, generation=None).check("the cut model")


def choose_layers(chosen: str | None, count: int) -> list[int]:
    """The layers of a model with `count` that are meant.

    Args:
        chosen: None, all; `N`, so many, spaced as in Distil-Whisper, of one the last, since what
            it gives is what the last LayerNorm and the output projection read; `0,3,5`, these,
            counted from 0 (one alone: `3,`).
        count: how many there are.

    Raises:
        InputError: neither a number nor a list, a layer that is not there, or layers that do not
            ascend.
    """
    if chosen is None:
        return list(range(count))
    if not re.fullmatch(r"\d{1,4}|(\d{1,4},)+(\d{1,4})?", chosen):
        raise InputError(f"{chosen}: neither a number of layers nor a list such as 0,3,5")
    if "," not in chosen:
        wanted = int(chosen)
        if not 0 < wanted <= count:
            raise InputError(f"{wanted} layers: there are {count}")
        if wanted == 1:
            return [count - 1]
        return [i * (count - 1) // (wanted - 1) for i in range(wanted)]
    layers = [int(layer) for layer in chosen.removesuffix(",").split(",")]
    if layers != sorted(set(layers)):
        raise InputError(f"{chosen}: the layers do not ascend")
    if layers[-1] >= count:
        raise InputError(f"layer {layers[-1]}: there are {count}, counted from 0")
    return layers
