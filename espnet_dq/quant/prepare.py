"""Put a Whisper's weights on a grid: which tensors, and how checkpoints stay plain.

State dicts keep the float weights under their own names (`decoder.net.blocks.0.mlp.0.weight`)
whether a model is prepared or not: float and quantized training read and write the same files,
averaging adds up float weights, and the grid is written in the configuration only. Learned ranges
stand beside their weights (`decoder.net.blocks.0.mlp.0.weight_range`).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from whisper.model import ModelDimensions

from espnet_dq.config import PRESETS, QuantConfig, known
from espnet_dq.errors import InputError, named
from espnet_dq.quant.fake_quant import RATE, FakeQuantize, least_error_clip
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.dims import weight_shapes

RANGE = "_range"  # the end of a learned range's name in state dicts
_ORIGINAL = re.compile(r"parametrizations\.weight\.(original|0\.range)$")


def candidates(dims: ModelDimensions) -> list[str]:
    """Names (openai-whisper's) of all weights that may be on a grid.

    Every linear of encoder and decoder, both convolutions and the token embedding, which is also
    the output projection. LayerNorms, biases and positional embeddings stay in float.
    """
    shapes = weight_shapes(dims)
    return [n for n, s in shapes.items() if n.endswith(".weight") and len(s) in (2, 3)]


def assign_grids(
    dims: ModelDimensions, grid: str | Mapping[str, str], preset: str = QuantConfig.preset
) -> dict[str, str]:
    """{name of a weight: name of its grid} for the weights that are to be on one.

    Args:
        dims: the model's.
        grid: one for all (on ggml's grids the convolutions stay in float16, as in ggml files), or
            a table of every one of `candidates(dims)` to its grid or `none`.
        preset: `full`, or only a part: `paper` (the decoder's, as in DQ-Whisper), `encoder` (for a
            float decoder that learns from a quantized encoder), `none` (float training).

    Raises:
        InputError: an unknown preset or grid, or a table that leaves out a weight, or names
            something else.
    """
    known("preset", preset, PRESETS)
    names = candidates(dims)
    if isinstance(grid, Mapping):
        for problem, odd in (
            ("is no weight that can be on a grid", grid.keys() - names),
            ("has no grid in the table; say none to keep it in float", names - grid.keys()),
        ):
            if odd:
                raise InputError(f"{min(odd)} {problem}")
        table = {name: grid[name] for name in names if grid[name] != "none"}
    else:
        shapes, matrices = weight_shapes(dims), get_grid(grid).matrices
        table = {name: grid for name in names if not (matrices and len(shapes[name]) == 3)}
    for name in {*table.values()}:
        get_grid(name)
    return {name: grid for name, grid in table.items() if name.startswith(PRESETS[preset])}


def quantize(
    state: Mapping[str, Tensor],
    grids: Mapping[str, str],
    clips: Mapping[str, Tensor] | None = None,
) -> dict[str, Quantized]:
    """Each weight named in `grids` on its grid, its range at its clip; `InputError` names it."""
    quantized = {}
    for name, grid in grids.items():
        with named(name):
            quantized[name] = get_grid(grid).quantize(state[name], (clips or {}).get(name))
    return quantized


def prepare(root: nn.Module, grids: Mapping[str, str], ranges: str = QuantConfig.ranges) -> None:
    """Register fake quantization on the weights named in `grids` (paths below `root`).

    The state dict of `root`, and that of each part of it, goes on using the plain names, as does
    loading one; `ranges` as in `FakeQuantize`. Raises `InputError` when a weight is missing, has a
    grid already, or does not fit its grid.
    """
    # All of them, before the first is changed.
    found = [_fake_quantized(root, name, grid, ranges) for name, grid in grids.items()]
    for module, fake in found:
        register(module, fake)
    root.on_grids = dict(grids)  # as it was asked for, see `check_on_grids`


def register(module: nn.Module, fake: FakeQuantize) -> None:
    """Let a layer see its weight through `fake`, under its plain name in state dicts."""
    # unsafe: it only skips a trial run of the parametrization on every weight.
    parametrize.register_parametrization(module, "weight", fake, unsafe=True)
    module.register_state_dict_post_hook(_plain_names)
    module.register_load_state_dict_pre_hook(_parametrized_names)
    module.register_load_state_dict_post_hook(_plain_keys)


def check_on_grids(root: nn.Module) -> None:
    """Raise an `InputError` for a weight that `prepare` put on a grid and that is on none now."""
    on = quantized_weights(root)
    if gone := [name for name in getattr(root, "on_grids", {}) if name not in on]:
        raise InputError(
            f"{gone[0]} was put on a grid and has left it: its layer was replaced since (resize or "
            "change the model before it is prepared)"
        )


def _fake_quantized(
    root: nn.Module, name: str, grid: str, ranges: str
) -> tuple[nn.Module, FakeQuantize]:
    """The layer of a weight, and what its weight is to pass through."""
    path, _, leaf = name.rpartition(".")
    try:
        module = root.get_submodule(path)
    except AttributeError as e:
        raise InputError(f"cannot quantize {name}: there is no such layer") from e
    plain = isinstance(module._parameters.get("weight"), nn.Parameter)
    if leaf != "weight" or not plain or parametrize.is_parametrized(module, "weight"):
        raise InputError(f"cannot quantize {name}: not a plain weight")
    with named(name):
        # A shape that the grid cannot hold must stop here, not in the first forward pass;
        # the values may not be loaded yet, so zeros of the same shape are tried.
        get_grid(grid).fake(torch.zeros(module.weight.shape))
        fake = FakeQuantize(get_grid(grid), ranges, module.weight.shape)
    return module, fake.requires_grad_(module.weight.requires_grad)  # frozen with its weight


def start_ranges(module, state_dict, prefix, *_):
    """A load_state_dict pre-hook: learned ranges that no checkpoint gave get the least error.

    To be registered before `prepare` registers its own, while names are plain. A range is given
    by none if it is missing or, as ESPnet fills up what it loads from the model, still NaN. Raises
    `InputError` for one of `gptq` that is not given.
    """
    for name, sub in module.named_modules():
        fake = (
            sub.parametrizations.weight[0] if parametrize.is_parametrized(sub, "weight") else None
        )
        weight = f"{prefix}{name}.weight"
        if fake is None or fake.ranges == "max" or weight not in state_dict:
            continue
        given = state_dict.get(weight + RANGE)
        if (given is None or given.isnan().all()) and state_dict[weight].isfinite().all():
            if fake.ranges == "gptq":
                raise InputError(
                    f"{weight}: ranges gptq start where rounding by clips leaves them, and the "
                    "checkpoint has none"
                )
            state_dict[weight + RANGE] = least_error_clip(state_dict[weight], fake.grid) / RATE


def _plain(name: str) -> str:
    return _ORIGINAL.sub(lambda m: "weight" + (RANGE if m[1] == "0.range" else ""), name)


def _plain_names(module, state_dict, prefix, local_metadata):
    for name in ("original", "0.range"):
        key = f"{prefix}parametrizations.weight.{name}"
        if key in state_dict:
            state_dict[_plain(key)] = state_dict.pop(key)


def _parametrized_names(module, state_dict, prefix, *_):
    on = parametrize.is_parametrized(module, "weight")  # what did not fit is taken off again
    for plain, name in (("weight", "original"), (f"weight{RANGE}", "0.range")):
        if on and prefix + plain in state_dict:
            state_dict[f"{prefix}parametrizations.weight.{name}"] = state_dict.pop(prefix + plain)


def _plain_keys(module, incompatible):
    for keys in (incompatible.missing_keys, incompatible.unexpected_keys):
        keys[:] = map(_plain, keys)


def quantized_weights(root: nn.Module) -> dict[str, str]:
    """{name of a weight: name of the grid that it is on now}, read off the modules themselves."""
    return {
        f"{name}.weight": module.parametrizations.weight[0].grid.name
        for name, module in root.named_modules()
        if parametrize.is_parametrized(module, "weight")
        and isinstance(module.parametrizations.weight[0], FakeQuantize)
    }
