"""Drop from a Whisper's vocabulary what texts in some languages do not need.

What is kept: `espnet_dq.student.trim`.

Example usage::

    python -Pm espnet_dq.bin.trim_vocabulary --from openai:tiny --keep_languages en,es \\
        --data dump/raw/train --words words.txt --out tiny_en_es.pt
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.errors import run, say
from espnet_dq.student.trim import trim_vocabulary


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], help="Kaldi folders (text and utt2lang)"
    )
    parser.add_argument(
        "--keep_languages",
        metavar="en,es,...",
        help="use only their texts in --data (default: all); every language token stays",
    )
    parser.add_argument(
        "--words", type=Path, nargs="+", default=[], help="texts or word lists, read line by line"
    )
    parser.add_argument("--out", type=Path, required=True, help="checkpoint (.pt) to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the smaller checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    languages = args.keep_languages.split(",") if args.keep_languages else None
    say(trim_vocabulary(args.source, args.out, args.data, args.words, languages))
    return 0


if __name__ == "__main__":
    run(main)
