"""Put a Whisper's weights on a grid: which tensors, and how checkpoints stay plain.

State dicts keep the float weights under their own names (`decoder.net.blocks.0.mlp.0.weight`)
whether a model is prepared or not: float and quantized training read and write the same files,
averaging adds up float weights, and the grid is written in the configuration only.
"""

import re
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.utils import parametrize
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.quant.fake_quant import FakeQuantize
from espnet_dq.quant.grids import get_grid
from espnet_dq.whisper.dims import weight_shapes

PRESETS = ("full", "paper", "encoder", "none")
_ORIGINAL = re.compile(r"(.*)\.parametrizations\.weight\.original")


def grid_weights(dims: ModelDimensions, preset: str = "full", grid: str = "ct2_int8") -> list[str]:
    """Names (openai-whisper's) of the weights that a preset puts on `grid`.

    `full`: every linear of encoder and decoder, both convolutions and the token embedding,
    which is also the output projection. `paper`: the decoder's part of these, as in DQ-Whisper.
    `encoder`: the encoder's part, for a float decoder that learns from a quantized encoder.
    `none`: nothing, float training.
    LayerNorms, biases and positional embeddings stay in float; on ggml's grids the convolutions
    too, which ggml files keep in float16. Raises `InputError`.
    """
    if preset not in PRESETS:
        raise InputError(f"unknown quantization preset '{preset}': known are {', '.join(PRESETS)}")
    # Matrices and convolutions, the token embedding included; vectors and the positional
    # embeddings (which are no `.weight`) are not.
    ranks = (2,) if grid.startswith("ggml_") else (2, 3)
    names = [n for n, s in weight_shapes(dims).items() if n.endswith(".weight") and len(s) in ranks]
    sides = {
        "full": ("encoder.", "decoder."),
        "paper": ("decoder.",),
        "encoder": ("encoder.",),
        "none": (),
    }
    return [n for n in names if n.startswith(sides[preset])]


def prepare(root: nn.Module, names: Iterable[str], grid: str) -> None:
    """Register fake quantization on the weights `names` (paths below `root`).

    `root.state_dict()` and `root.load_state_dict()` go on using the plain names. Raises
    `InputError` when a weight is missing, has one on it already, or does not fit the grid.
    """
    get_grid(grid)  # a name that is no grid stops here, even if nothing is to be on it
    for name in names:
        path, _, leaf = name.rpartition(".")
        try:
            module = root.get_submodule(path)
        except AttributeError as e:
            raise InputError(f"cannot quantize {name}: there is no such layer") from e
        if leaf != "weight" or parametrize.is_parametrized(module, "weight"):
            raise InputError(f"cannot quantize {name}: not a plain weight")
        try:
            # A shape that the grid cannot hold must stop here, not in the first forward pass;
            # the values may not be loaded yet, so zeros of the same shape are tried.
            get_grid(grid).fake(torch.zeros(module.weight.shape))
        except InputError as e:
            raise InputError(f"{name}: {e}") from e
        # unsafe: it only skips a trial run of the parametrization on every weight.
        parametrize.register_parametrization(
            module, "weight", FakeQuantize(get_grid(grid)), unsafe=True
        )
    root.register_state_dict_post_hook(_plain_names)
    root.register_load_state_dict_pre_hook(_parametrized_names)


def _plain_names(module, state_dict, prefix, local_metadata):
    for key in list(state_dict):
        if key.startswith(prefix) and (m := _ORIGINAL.fullmatch(key)):
            state_dict[f"{m[1]}.weight"] = state_dict.pop(key)


def _parametrized_names(module, state_dict, prefix, *_):
    for name, sub in module.named_modules():
        if parametrize.is_parametrized(sub, "weight"):
            plain = f"{prefix}{name}.weight"
            if plain in state_dict:
                original = f"{prefix}{name}.parametrizations.weight.original"
                state_dict[original] = state_dict.pop(plain)


def quantized_weights(root: nn.Module) -> dict[str, str]:
    """{name of a weight: name of the grid that it is on now}, read off the modules themselves."""
    return {
        f"{name}.weight": module.parametrizations.weight[0].grid.name
        for name, module in root.named_modules()
        if parametrize.is_parametrized(module, "weight")
    }
