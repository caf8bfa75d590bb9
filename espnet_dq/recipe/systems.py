"""The systems that a run scores: what runs each, and where it lies in the experiment."""

from collections.abc import Iterable, Iterator

from espnet_dq.config import CHECKPOINT
from espnet_dq.formats.registry import home
from espnet_dq.report import rounded
from espnet_dq.report.roles import ROLES, ROUNDED

SYSTEMS = (*ROLES, "student_torch")


def place(system: str, grid: str) -> tuple[str, str]:
    """A system's runtime, and its path below the experiment.

    Args:
        system: one of `SYSTEMS`.
        grid: the student's; anything else of a table.
    """
    form = home(grid)
    if system == "student_torch":
        return "torch", f"qat/{CHECKPOINT}"
    if system == "student" or system in ROUNDED:
        return form.runtime, f"export/{form.exported.replace('student', system, 1)}"
    return "faster-whisper", f"export/{system}"


def entries(systems: Iterable[str], grid: str, also: Iterable[str]) -> Iterator[str]:
    """What dq.sh has to know of each: name, runtime and path, with colons between.

    And of the trained student rounded to each grid of `also`.
    """
    for system in systems:
        yield ":".join((system, *place(system, grid)))
    for each in also:
        path = f"export/{rounded.exported(each)}"
        yield ":".join((rounded.name(each), home(each).runtime, path))
