"""Round what a run scores without training it (stage 9).

If they are among --systems, `untouched_rounded` and `teacher_rounded` are the models that a run
begins with, on the student's grid. Of each grid of --also it is the trained student as its training
computed with it (export/student.pt): to fewer than 8 bits by clips of data/train, whose integers
export/rounded_GRID_by_clips.safetensors keeps, else to the nearest values. Each of these is
verified before it gets its name, in words in verify_rounded_GRID.txt; what is there is of this
student (stage 8 removes others), and stays.

Example usage::

    python -Pm espnet_dq.bin.round_systems --exp exp/asterisk_base_tiny_ct2_int8 --grid ct2_int8 \\
        --student downloads/weights/tiny.pt --teacher downloads/weights/base.pt \\
        --systems student untouched_rounded --also ggml_q4_0
"""

import sys
from pathlib import Path

from espnet_dq.api.models import convert, load, quantize, save
from espnet_dq.api.verification import verify
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.files import atomic
from espnet_dq.formats.registry import home
from espnet_dq.quant.grids import few_bits
from espnet_dq.recipe.systems import SYSTEMS, place
from espnet_dq.report import rounded
from espnet_dq.report.roles import ROUNDED


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, stage 8 done")
    parser.add_argument("--grid", required=True, help="the student's")
    for name in ("student", "teacher"):
        parser.add_argument(f"--{name}", required=True, metavar="MODEL", help="before the training")
    parser.add_argument(
        "--systems", nargs="+", choices=SYSTEMS, required=True, help="those that are scored"
    )
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="GRID", help="grids that the student is rounded to"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the files and folders; returns 0."""
    args = get_parser().parse_args(argv)
    for system, model in zip(ROUNDED, (args.student, args.teacher), strict=True):
        if system in args.systems:
            convert(model, args.exp / place(system, args.grid)[1], home(args.grid).name, args.grid)
            say(f"{system}: rounded to {args.grid}", sys.stderr)
    for grid in args.also:
        round_student(args.exp, grid)
    return 0


def round_student(exp: Path, grid: str) -> None:
    """Round the trained student to a grid, unless that is done; see above.

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


if __name__ == "__main__":
    run(main)
