"""Warn of languages that the teacher does not hear in clips that are said to be in them (stage 3).

Up to ten clips of each language are listened to; fewer where there are more than five languages.
"""

import sys
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.labels.languages import doubts, heard


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="openai-whisper .pt file")
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a warning for each; returns 0."""
    args = get_parser().parse_args(argv)
    for line in doubts(heard(args.teacher, args.data)):
        say(f"warning: {args.data}: {line}", sys.stderr)
    return 0


if __name__ == "__main__":
    run(main)
