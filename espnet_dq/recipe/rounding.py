"""What a run scores without training it: models that are only rounded to a grid."""

import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_dq.api.models import convert, load, quantize, save
from espnet_dq.api.verification import verify
from espnet_dq.errors import say
from espnet_dq.files import atomic
from espnet_dq.formats.registry import home
from espnet_dq.quant.grids import few_bits
from espnet_dq.recipe.systems import place
from espnet_dq.report import rounded
from espnet_dq.report.roles import ROUNDED


def round_systems(
    exp: Path, grid: str, student: str, teacher: str, systems: Sequence[str], also: Sequence[str]
) -> None:
    """Write what is scored, unless it is there, in files and folders of EXP/export.

    Args:
        exp: The experiment, stage 8 done.
        grid: The student's, to which the two models that it began with are rounded.
        student, teacher: These models.
        systems: Which are scored.
        also: Grids that the trained student is rounded to.

    Raises:
        InputError, WorkError: See `round_student` and `espnet_dq.api.models.convert`.
    """
    for system, model in zip(ROUNDED, (student, teacher), strict=True):
        if system in systems:
            convert(model, exp / place(system, grid)[1], home(grid).name, grid)
            say(f"{system}: rounded to {grid}", sys.stderr)
    for each in also:
        round_student(exp, each)


def round_student(exp: Path, grid: str) -> None:
    """Round the trained student to a grid, unless that is done.

    To fewer than 8 bits by clips of EXP/data/train, else to the nearest values.

    Raises:
        InputError: no student, or no windows to round by, or as `quantize`.
        WorkError: what was written is not what it should be.
    """
    path, form, how = exp / "export" / rounded.exported(grid), home(grid), ""
    if path.exists():
        return
    student = load(exp / "export/student.pt")
    if few := few_bits(grid):
        how, kept = " by clips", exp / "export" / rounded.kept(grid)
    model = quantize(student, grid, exp / "data/train" if few else None)
    if few:
        save(model, kept, to="packed")
    with atomic(path, form.folder) as tmp:
        save(model, tmp, to=form.name)
        # By clips: that the integers are those is all that can be said of them. Of others they
        # are computed again.
        report = verify(tmp, model) if few else verify(tmp, student, grid)
        report.path, lines = str(path), report.lines()
        with atomic(exp / f"verify_{rounded.name(grid)}.txt") as text:
            text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        report.check()
    say(f"{rounded.name(grid)}: rounded{how}; {lines[-1]}", sys.stderr)
