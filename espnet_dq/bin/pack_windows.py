"""Join short utterances into 30 s windows for training (stage 2).

What fits into no window is listed beside the folder, in OUT.left_out.tsv; OUT.minutes.json says how
much of each language was given and how much is in windows.

Example usage::

    python -Pm espnet_dq.bin.pack_windows --data dump/raw/train --out packed --singles 200
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_balance
from espnet_dq.data.pack import Balance
from espnet_dq.data.windows import pack_windows
from espnet_dq.errors import run
from espnet_dq.formats.openai import read as openai
from espnet_dq.values import count, percentage, whole
from espnet_dq.whisper.dims import SIZES


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="Kaldi folder to write")
    parser.add_argument(
        "--singles", type=whole, default=0, help="utterances that also get their own window (0)"
    )
    parser.add_argument("--most", type=count, help="keep so many windows, drawn from all (all)")
    parser.add_argument(
        "--by_speaker", action="store_true", help="no window has utterances of two speakers"
    )
    parser.add_argument(
        "--max_left_out", type=percentage, default=100.0, metavar="P",
        help="stop if more than P percent of the utterances fit into no window (100)",
    )  # fmt: skip
    add_balance(parser)
    parser.add_argument("--seed", type=whole, default=0, help="seed of the shuffle (0)")
    parser.add_argument(
        "--shared", type=Path, help="keep the folder here, for all that want the same windows"
    )
    parser.add_argument(
        "--student",
        type=Path,
        help=".pt that sets window, decoder and tokens (default: 30 s and any Whisper's)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Pack a formatted data folder; returns 0."""
    args = get_parser().parse_args(argv)
    dims = openai.load(args.student).dims if args.student else SIZES["tiny"]
    balance = Balance(args.temperature, args.max_hours)
    pack_windows(
        args.data,
        args.out,
        args.singles,
        args.seed,
        balance,
        dims,
        args.shared,
        args.most,
        args.by_speaker,
        args.max_left_out,
    )
    return 0


if __name__ == "__main__":
    run(main)
