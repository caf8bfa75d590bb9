"""Make an openai-whisper checkpoint the start of a student (stage 3).

Writes OUT/student.pth, for ESPnet's --init_param, OUT/tokens.txt, for its --token_list, and
OUT/student.dims and OUT/teacher.dims, one line of YAML each, for `dims` and `teacher_dims`.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.task.start import init_student


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help=".pt checkpoint")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt checkpoint")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument(
        "--export",
        nargs=2,
        metavar=("FORMAT", "CONFIG"),
        help="refuse a preset, in the training configuration, that the format cannot hold",
    )
    parser.add_argument(
        "--also", nargs="*", default=(), metavar="GRID", help="refuse other grids that do not fit"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the files; returns 0."""
    args = get_parser().parse_args(argv)
    say(init_student(args.source, args.teacher, args.grid, args.out, args.export, args.also))
    return 0


if __name__ == "__main__":
    run(main)
