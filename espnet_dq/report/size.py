"""Model sizes: counted by the paper's rule. What a file really takes is `files.bytes_on_disk`.

The rule: 16 bits a value for everything in the state dict, the encoder's positional table
included, except that quantized parameters whose name ends in `.weight` (token embedding and
LayerNorm too) count their grid's bits. The paper quantizes those outside the encoder and
gives ratios to whisper-small at 16 bits.
"""

from collections.abc import Mapping
from math import prod

from espnet_dq.errors import InputError
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import PRESETS
from espnet_dq.whisper.dims import SIZES, weight_shapes

FLOAT_BITS = 16
MIB = 2**20


def value_bits(name: str, preset: str | None, bits: int | Mapping[str, int]) -> int:
    """Bits that the rule counts for each value of the entry `name`.

    Args:
        name: openai-whisper's state-dict name.
        preset: one of `PRESETS`, or None for a float model.
        bits: of the grid, or of each weight's where they differ; what has none counts as float.
    """
    sides = PRESETS.get(preset or "none")
    if sides is None:
        raise InputError(f"unknown preset: {preset} ({', '.join(PRESETS)})")
    if not name.startswith(sides) or not name.endswith(".weight"):
        return FLOAT_BITS
    return bits if isinstance(bits, int) else bits.get(name, FLOAT_BITS)


def paper_rule_bytes(
    shapes: Mapping[str, tuple[int, ...]],
    preset: str | None = None,
    bits: int | Mapping[str, int] = FLOAT_BITS,
) -> int:
    """Bytes of a model by the paper's rule; counted, not measured.

    Args:
        shapes: name -> shape of each entry of openai-whisper's state dict.
        preset, bits: see `value_bits`.

    Example usage::

        paper_rule_bytes(weight_shapes(SIZES["small"])) / MIB  # 461.07
    """
    total = sum(prod(shape) * value_bits(name, preset, bits) for name, shape in shapes.items())
    return -(-total // 8)


def grid_bits(grid: str | Mapping[str, str]) -> int | dict[str, int]:
    """Bits of a grid's integers; of a table, those of each weight that has a grid.

    Raises `InputError` for a name that is no grid.
    """
    if isinstance(grid, str):
        return get_grid(grid).bits
    return {name: get_grid(each).bits for name, each in grid.items() if each != "none"}


def small_bytes() -> int:
    """whisper-small at 16 bits by the rule: the paper's reference, 461.07 MiB."""
    return paper_rule_bytes(weight_shapes(SIZES["small"]))
