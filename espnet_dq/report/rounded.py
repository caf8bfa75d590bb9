"""The trained student in grids that it was not trained on (`--also`): rounded, and said to be so.

What is rounded is the student as its training computed with it, the values on its own grid. So the
result is as near to what was trained and scored as the other grid allows: to a grid of few bits by
clips of the training's data (`espnet_dq.quant.gptq`), else each weight to its nearest value.
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


def kept(grid: str) -> str:
    """The packed file of what is rounded by clips: the integers that `exported` keeps."""
    return f"{name(grid)}_by_clips.safetensors"


def how(system: Mapping) -> str:
    """How it was rounded, behind the grid; nothing of a weight's nearest value."""
    return " by clips of its training data" if system.get("by_clips") else ""


def said(system: Mapping) -> str:
    """What a rounded system is, in a sentence without its end."""
    return f"the trained student rounded to {system['grid']}{how(system)}, not trained on it"
