"""Begin the training on the grid between the untouched student and what kd made of it (stage 7).

See `espnet_dq.student.merge`; `espnet_dq.bin.merge` does the same to models of any format.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, share
from espnet_dq.errors import run, say
from espnet_dq.files import check_replaceable
from espnet_dq.task.start import merge_start


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--start", type=Path, required=True, help="init/student.pth")
    parser.add_argument("--trained", type=Path, required=True, help="checkpoint of that training")
    parser.add_argument("--share", type=share, required=True, help="of the trained one, 0 to 1")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    say(merge_start(args.start, args.trained, args.share, args.out))
    return 0


if __name__ == "__main__":
    run(main)
