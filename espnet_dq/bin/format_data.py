"""Bring audio to 16 kHz, leave out what cannot be used, check that splits are apart (stage 2).

What is left out, and where audio goes: `espnet_dq.data.formatting`. Instead of being left out, long
utterances of train and dev can be split at pauses (`--long split`), with their text, by a Whisper
(`--aligner`).
"""

from functools import partial
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.formatting import MOST_LEFT_OUT, SECONDS, format_folder
from espnet_dq.errors import InputError, run
from espnet_dq.values import count, percentage


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="holds train, dev and test")
    parser.add_argument("--out", type=Path, required=True, help="where the same folders go")
    parser.add_argument("--max_seconds", type=float, default=SECONDS[1], help="longest utterance")
    parser.add_argument("--min_seconds", type=float, default=SECONDS[0], help="shortest utterance")
    parser.add_argument(
        "--long", choices=("drop", "split"), default="drop", help="what to do with longer ones"
    )
    parser.add_argument("--aligner", type=Path, help="for --long split: a Whisper's .pt file")
    parser.add_argument("--nj", type=count, default=1, help="processes that read audio")
    parser.add_argument(
        "--untranscribed", action="store_true", help="train and dev are audio without text"
    )
    parser.add_argument(
        "--allow_pipes", action="store_true", help="run the commands that stand in wav.scp"
    )
    parser.add_argument(
        "--allow_shared_text",
        action="store_true",
        help="only warn when a sentence is in two splits, as it may be in a corpus of your own",
    )
    parser.add_argument(
        "--max_left_out",
        type=percentage,
        default=MOST_LEFT_OUT,
        metavar="PERCENT",
        help="stop if more of the utterances are left out, in percent (%(default)g)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check, format and write the three splits."""
    args = get_parser().parse_args(argv)
    seconds, split = (args.min_seconds, args.max_seconds), None
    if not 0 <= args.min_seconds < args.max_seconds:
        raise InputError("--min_seconds must be less than --max_seconds, and not negative")
    if (args.long == "split") != (args.aligner is not None):
        raise InputError("--long split and --aligner FILE go together")
    if args.aligner:
        from espnet_dq.labels.split import split_long  # imports torch

        split = partial(split_long, args.max_seconds, args.aligner, args.nj)
    flags = "untranscribed", "allow_pipes", "allow_shared_text"
    given = {name: getattr(args, name) for name in flags}
    format_folder(args.data, args.out, args.nj, seconds, args.max_left_out, split, **given)
    return 0


if __name__ == "__main__":
    run(main)
