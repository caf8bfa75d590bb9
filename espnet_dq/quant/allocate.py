"""Choose a grid for each weight so that a model fits a budget and loses least."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.quant.sensitivity import Loss
from espnet_dq.quant.table import write_table
from espnet_dq.reading import loads, read_text

UNIT = 1024  # bytes: sizes are rounded up to it
MB = 1_000_000
_HEADER = 256  # bytes that a packed file's header needs for a tensor, at most


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


def allocate_table(table: Path, budget_mb: float, out: Path) -> tuple[dict[str, Loss], int]:
    """Write the choice as a YAML file, which is taken wherever a grid is named.

    Args:
        table: What `sensitivity` wrote, finished.
        budget_mb: The largest packed file, in 10^6 bytes.
        out: The file.

    Returns:
        The choice, and how many bytes the packed file has at most.

    Raises:
        InputError: No such table or an unfinished one, too small a budget, or a file that may not
            be replaced.
    """
    check_replaceable(out)
    check_apart(out, table)
    model, fixed, losses = _table(table)
    least = (least_bytes(losses) + fixed) / MB
    if budget_mb < least:
        needed = math.ceil(1000 * least) / 1000
        raise InputError(f"--budget_mb {budget_mb:g}: at least {needed:.3f} is needed")
    chosen = allocate(losses, budget_mb * MB - fixed)
    total = sum(loss.bytes for loss in chosen.values()) + fixed
    kl = sum(loss.kl for loss in chosen.values())
    write_table(
        out,
        {name: loss.grid for name, loss in chosen.items()},
        f"From {table.name}, {model}: at most {budget_mb} MB.\n"
        f"Computed, not measured: {total} bytes packed, KL {kl:.5f} nats a token if losses add up.",
    )
    return chosen, total


def _table(path: Path) -> tuple[str, int, dict[str, list[Loss]]]:
    """The model's name, the bytes that no choice changes, and what each grid costs."""
    losses: dict[str, list[Loss]] = {}
    where = str(path)
    try:
        head, *lines = read_text(path).splitlines()
        for number, line in enumerate(lines, 2):
            where = f"{path}:{number}"
            loss = Loss.parse(line)
            losses.setdefault(loss.name, []).append(loss)
        where = f"{path}:1"
        settings = loads(head)
        kept = {name for name, rows in losses.items() if any(r.grid == "none" for r in rows)}
        missing = {*map(str, settings["candidates"])} - kept
        # What no grid can be on stays, in float16, and so does the header.
        fixed = int(settings["rest_bytes"]) + _HEADER * 2 * int(settings["tensors"])
        model = str(settings["model"])
    except (ValueError, TypeError, KeyError, OverflowError) as e:
        raise InputError(f"{where}: not a table of `sensitivity`, or torn ({e})") from e
    if missing:
        raise InputError(f"{path}: {min(missing)} is not in it yet; run `sensitivity` to its end")
    return model, fixed, losses
