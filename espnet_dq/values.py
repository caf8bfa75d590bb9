"""What a number or path in a command line may be: types for argparse, which raise what it tells."""

import argparse
from math import inf, isnan, nan
from pathlib import Path

MOST_SEED = 4_000_000_000  # numpy takes less than 2^32, and ESPnet adds its epochs to it


def a_path(text: str) -> Path:
    """A path that is not empty: `Path("")` would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path is empty")
    return Path(text)


def whole(text: str, least: int = 0) -> int:
    """A whole number of `least` or more."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of {least} or more")
    return int(text)


def count(text: str) -> int:
    """A whole number of 1 or more."""
    return whole(text, 1)


def seed(text: str) -> int:
    """The seed of a training."""
    if whole(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"'{text}' is above {MOST_SEED}, a seed's most")
    return int(text)


def percentage(text: str) -> float:
    """0 to 100."""
    value = _number(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage, 0 to 100")
    return value


def one_or_more(text: str) -> float:
    """A number of 1 or more."""
    value = _number(text)
    if not value >= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def positive(text: str) -> float:
    """A number above 0; `inf` is no limit."""
    value = _number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value


def number(text: str) -> float:
    """Any number; `inf` and `-inf` are no limit."""
    value = _number(text)
    if isnan(value):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return value


def finite(text: str) -> float:
    """A number above 0, and no infinity."""
    value = positive(text)
    if value == inf:
        raise argparse.ArgumentTypeError(f"'{text}' has no end")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return nan
