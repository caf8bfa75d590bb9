"""Take jobs from Slurm that a killed run has left there, and wait until they have ended."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run
from espnet_dq.jobs import end_left


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "note", type=Path, help="their number, in a hidden folder beside their logs"
    )
    parser.add_argument("--alone", action="store_true", help="nobody else can be waiting for them")
    return parser


def main(argv: list[str] | None = None) -> int:
    """End them; returns 0."""
    args = get_parser().parse_args(argv)
    end_left(args.note, args.alone)
    return 0


if __name__ == "__main__":
    run(main)
