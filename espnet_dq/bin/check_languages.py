"""Warn of languages that the teacher does not hear in clips that are said to be in them (stage 3).

Up to ten clips of each language are listened to; fewer where there are more than five languages.
"""

import json
import sys
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import FOLDER
from espnet_dq.errors import run, say
from espnet_dq.files import check_apart, check_replaceable, write_text
from espnet_dq.labels.languages import doubts, heard


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--teacher", type=Path, required=True, help="openai-whisper .pt file")
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="where the report finds them, JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print a warning for each, and write them; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    check_apart(args.out, args.teacher)
    check_apart(args.out, args.data, FOLDER.files)
    lines = doubts(heard(args.teacher, args.data))
    for line in lines.values():
        say(f"warning: {args.data}: {line}", sys.stderr)
    write_text(args.out, json.dumps(lines, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
