"""The trained student in grids that it was not trained on (`--also`): rounded, and said to be so.

What is rounded is the student as its training computed with it, the values on its own grid. So the
result is as near to what was trained and scored as the other grid allows.
"""

from collections.abc import Mapping

from espnet_dq.formats.registry import home

ROLE = "student_rounded"


def name(grid: str) -> str:
    """Of the system, its file and its published folder."""
    return f"rounded_{grid}"


def exported(grid: str) -> str:
    """The file, or folder, of the format that has the grid."""
    return f"{name(grid)}{home(grid).suffix}"


def said(system: Mapping) -> str:
    """What a rounded system is, in a sentence without its end."""
    return f"the trained student rounded to {system['grid']}, not trained on it"
