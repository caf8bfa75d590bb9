"""Begin the training on the grid between the untouched student and what kd made of it (stage 7).

See `espnet_dq.student.merge`, and for the share that is chosen `espnet_dq.task.share`.
`espnet_dq.bin.merge` does the same to models of any format.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import PADDINGS
from espnet_dq.errors import run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.task.plan import AUTO, share_or_auto
from espnet_dq.task.share import TRIED, choose
from espnet_dq.task.start import STUDENT, merge_start


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, stages 1 to 6 done")
    parser.add_argument("--trained", type=Path, required=True, help="checkpoint of its kd")
    parser.add_argument(
        "--share",
        type=share_or_auto,
        required=True,
        help=f"of the trained one, 0 to 1; {AUTO}: which dev and the canary like best ({TRIED})",
    )
    parser.add_argument("--padding", choices=PADDINGS, required=True, help="of windows")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    for path in (args.out, args.exp / TRIED):
        check_replaceable(path)
    for read in (args.exp / "init" / STUDENT, args.trained):
        check_apart(args.out, read)
    share = choose(args.exp, args.trained, args.padding) if args.share == AUTO else args.share
    out = merge_start(args.exp / "init" / STUDENT, args.trained, share, args.out)
    say(f"{out}: {share:g} of what kd made, {1 - share:g} of the untouched student")
    return 0


if __name__ == "__main__":
    run(main)
