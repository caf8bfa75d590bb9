"""Check Kaldi data folders: exit 0 if they are fit for use, 2 with what is wrong otherwise.

Of a good one it prints a line that says what is in it.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.fitness import check_folders
from espnet_dq.errors import run


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "folders", nargs="+", type=Path, help="data folders, or a folder of train, dev and test"
    )
    parser.add_argument("--language", help="language of all utterances, instead of utt2lang")
    parser.add_argument("--untranscribed", action="store_true", help="audio only, without text")
    parser.add_argument("--allow_pipes", action="store_true", help="allow commands in wav.scp")
    parser.add_argument("--all", action="store_true", help="list all faults, not only the first")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check each folder."""
    args = get_parser().parse_args(argv)
    check_folders(args.folders, args.language, args.untranscribed, args.allow_pipes, args.all)
    return 0


if __name__ == "__main__":
    run(main)
