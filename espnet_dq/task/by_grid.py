"""What follows from a grid for the training on it, where its configuration says nothing."""

from collections.abc import Mapping
from copy import deepcopy

from espnet_dq.config import DistillConfig, QuantConfig, read_section
from espnet_dq.quant.grids import few_bits, get_grid

# Of AdamW. On few bits weights have to cross larger steps. On others these forget less of what the
# training does not have (docs/results.md).
RATE, FEW_BITS_RATE = 5.0e-6, 1.0e-5


def by_grid(config: Mapping, grid: str | Mapping[str, str], source: str) -> dict:
    """The configuration of a training on a grid, with what the grid decides.

    Without `optim_conf.lr`, AdamW gets one. Without `ranges`, training on a grid below 8 bits that
    has learned ranges begins where rounding by clips leaves the weights, `gptq`. Not so with a
    `ramp`, which begins with the float weights, nor with a frozen encoder, whose kept outputs are
    those of the grid's own ranges. Of tables of grids that is not known to help.

    Args:
        config: as ESPnet takes it; it stays as it is.
        grid: one grid's name, or a table of weights and grids.
        source: what an error names.

    Raises:
        InputError: a section that is no mapping, or no such grid.
    """
    whole, table = deepcopy(dict(config)), not isinstance(grid, str)
    few = table or few_bits(grid)
    if config.get("optim") == "adamw":
        rate = FEW_BITS_RATE if few else RATE
        whole["optim_conf"] = {"lr": rate} | read_section(whole, "optim_conf", source)
    section = read_section(whole, QuantConfig.SECTION, source)
    frozen = section.get("train_encoder", DistillConfig.train_encoder) in ("none", 0)
    said = frozen or section.keys() & {"ranges", "ramp"}
    if few and not table and get_grid(grid).learns and not said:
        whole[QuantConfig.SECTION] = section | {"ranges": "gptq"}
    return whole
