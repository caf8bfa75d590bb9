"""Choose a grid for each weight so that a model fits a budget and loses least."""

from collections.abc import Mapping, Sequence

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.quant.sensitivity import Loss

UNIT = 1024  # bytes: sizes are rounded up to it


def least_bytes(losses: Mapping[str, Sequence[Loss]]) -> int:
    """The least budget that `allocate` can keep."""
    return UNIT * sum(min(map(_units, rows)) for rows in losses.values())


def _units(loss: Loss) -> int:
    return -(-loss.bytes // UNIT)


def allocate(losses: Mapping[str, Sequence[Loss]], budget: float) -> dict[str, Loss]:
    """The choice whose losses have the least sum, of all that fit into `budget` bytes.

    The losses of weights quantized alone are taken to add up. A multiple-choice knapsack, solved
    exactly by dynamic programming over the bytes, in units of 1 KiB.

    Args:
        losses: weight -> what each of its grids costs.
        budget: bytes for the integers and scales of all of them; `inf` is no limit.

    Raises:
        InputError: not even the smallest grids fit (`least_bytes`).
    """
    sizes = {name: [_units(loss) for loss in rows] for name, rows in losses.items()}
    # Of more than the largest grids need nothing would become of but arrays.
    units = int(min(budget, UNIT * sum(map(max, sizes.values()))) // UNIT)
    if (least := least_bytes(losses)) > UNIT * units:
        raise InputError(f"{budget:.0f} bytes are too small: the smallest grids need {least}")
    best = np.zeros(units + 1)  # best[u]: least loss of the weights so far within u units
    chosen = []
    for name, rows in losses.items():
        options = np.full((len(rows), units + 1), np.inf)
        for option, loss, size in zip(options, rows, sizes[name], strict=True):
            if size <= units:
                option[size:] = best[: units + 1 - size] + loss.kl
        chosen.append(options.argmin(axis=0).astype(np.uint8))  # there are not so many grids
        best = options.min(axis=0)
    result, left = {}, units
    for (name, rows), choice in zip(reversed(losses.items()), reversed(chosen), strict=True):
        index = int(choice[left])
        result[name] = rows[index]
        left -= sizes[name][index]
    return {name: result[name] for name in losses}
