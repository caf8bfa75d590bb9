"""Run stage 1 and note what it read, or compare the source with what it read (stage 1).

The command is local/data.sh and its options, without --out. Published corpora are pinned: of them
nothing is noted.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.stage_1 import Stage1
from espnet_dq.errors import run
from espnet_dq.values import count


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where train, dev and test go")
    parser.add_argument("--exp", type=Path, help="compare what this experiment was made of")
    parser.add_argument(
        "--warn", action="store_true", help="only warn of a change, and read nothing"
    )
    parser.add_argument("--student", help="a Whisper's name or .pt, which knows all languages")
    parser.add_argument("--apart", action="append", default=[], help="a folder that is no source")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    parser.add_argument("command", nargs="+", help="local/data.sh and its options, behind --")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Make the data, or compare; returns what stage 1 does."""
    args = get_parser().parse_args(argv)
    stage = Stage1(args.command, args.out, args.apart, args.nj)
    if not args.exp:
        return stage.run(args.student)
    stage.compare(args.exp, args.warn)
    return 0


if __name__ == "__main__":
    run(main)
