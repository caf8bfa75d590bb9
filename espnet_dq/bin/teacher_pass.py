"""Cache what the frozen teacher, and a frozen encoder, say of a data folder (stage 4)."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import PADDINGS, WindowConfig
from espnet_dq.distill.teacher_pass import teacher_pass
from espnet_dq.errors import run, say
from espnet_dq.jobs import Part


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the cache")
    parser.add_argument("--teacher", type=Path, required=True, help="teacher's .pt")
    parser.add_argument("--student", type=Path, required=True, help="untouched student's .pt")
    parser.add_argument("--grid", required=True, help="the student's weight grid, or a file")
    parser.add_argument(
        "--train_config",
        type=Path,
        required=True,
        nargs="+",
        help="the YAML files that training will use; they must want the same cache",
    )
    parser.add_argument(
        "--padding",
        default=WindowConfig.padding,
        choices=PADDINGS,
        help="of the student's windows (default: %(default)s)",
    )
    parser.add_argument(
        "--shared", type=Path, help="keep the cache here, for all that want the same answers"
    )
    parser.add_argument(
        "--part",
        type=Part.parse,
        metavar="K/N",
        help="only part K of N, for a job; the same command without this then finishes the cache",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the pass; returns 0."""
    args = get_parser().parse_args(argv)
    say(
        teacher_pass(
            args.data, args.out, args.teacher, args.student, args.grid, args.train_config,
            args.padding, args.shared, args.part,
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    run(main)
