"""What all changes have in common."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

REWRITTEN = "rewritten, nothing changed"
Change = Callable[[Path, Path, random.Random], tuple[str, str]]


class Unchanged(Exception):
    """Try again."""


def copy(original: Path, target: Path, without: str = "") -> None:
    """Links to all files below a folder but one, or to nothing of a file: that is written anew."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if original.is_dir():
        target.mkdir()
        for file in (path for path in sorted(original.rglob("*")) if path.is_file()):
            place = target / file.relative_to(original)
            place.parent.mkdir(exist_ok=True)
            if place != target / without:
                os.link(file, place)


def new_number(value: float, dice: random.Random) -> float:
    """Another number: a near one, its negative, an odd one."""
    integer = isinstance(value, int)
    options = [value + 1, value - 1, -value, 0, value * 2, value + 7, 1]
    options += [] if integer else [value * 1.001, value * 1.5]
    options = [o for o in options if o != value]
    return type(value)(dice.choice(options))


def other_value(value: object, dice: random.Random) -> object:
    if isinstance(value, bool):
        return dice.choice([not value, int(value), None])
    if isinstance(value, int | float):
        return dice.choice([new_number(value, dice)] * 4 + [None, str(value), value + 0.5])
    if isinstance(value, str):
        return dice.choice([value + "x", value[::-1], "", value.upper(), None])
    if isinstance(value, list):
        return dice.choice([value[::-1], value[:-1], [*value, 1], [], None])
    if isinstance(value, dict):
        return dice.choice([{}, None, dict(list(value.items())[:-1])])
    return dice.choice([0, 1, True, "", [1]])


def flipped(array: np.ndarray, dice: random.Random) -> np.ndarray:
    """One element changed: a bit, or to NaN, infinity, zero or its negative."""
    new = array.copy().reshape(-1)
    at = dice.randrange(new.size)
    raw = new[at : at + 1].view(np.uint8)
    way = dice.choice(["bit"] * 6 + ["nan", "inf", "zero", "negative"])
    if way == "bit" or new.dtype.kind != "f":
        raw[dice.randrange(raw.size)] ^= 1 << dice.randrange(8)
    else:
        new[at] = {"nan": np.nan, "inf": np.inf, "zero": 0, "negative": -new[at]}[way]
    if new.tobytes() == array.tobytes():
        raise Unchanged
    return new.reshape(array.shape)
