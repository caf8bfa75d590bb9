"""Draw a few utterances of each language of a Kaldi folder: the same ones every time.

Example usage::

    python -Pm espnet_dq.bin.subset_data --data dump/raw/test --out dump/test_40 --per_language 40
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.kaldi import FOLDER, KaldiDir
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_apart, check_replaceable


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    parser.add_argument("--per_language", type=int, required=True, help="at most so many")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the folder; returns 0."""
    args = get_parser().parse_args(argv)
    check_apart(args.out, args.data)
    check_replaceable(args.out, FOLDER)
    if args.per_language < 1:
        raise InputError(f"--per_language {args.per_language}: at least 1 is needed")
    data = KaldiDir.load(args.data, extra=["utt2num_samples"])
    drawn = data.draw(args.per_language)
    drawn.save(args.out)
    say(f"{args.out}: {len(drawn.wav)} of {len(data.wav)} utterances")
    return 0


if __name__ == "__main__":
    run(main)
