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

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.recipe.rounding import round_systems
from espnet_dq.recipe.systems import SYSTEMS


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
    round_systems(**vars(get_parser().parse_args(argv)))
    return 0


if __name__ == "__main__":
    run(main)
