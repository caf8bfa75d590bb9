"""A Kaldi folder as a CutSet of lhotse's, for icefall: one cut with one supervision an utterance.

Takes folders with `segments`, too. What is written: `espnet_dq.data.cuts`.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.cuts import write_cuts
from espnet_dq.errors import run, say


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl.gz file")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the cuts of a folder."""
    args = get_parser().parse_args(argv)
    count = write_cuts(args.data, args.out)
    say(f"{args.out}: {count} cuts")
    return 0


if __name__ == "__main__":
    run(main)
