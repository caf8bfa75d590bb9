"""Cut a Whisper to fewer layers or channels, or a shorter window, for distillation to start from.

Layers that stay are the source's, bit for bit. Fewer channels (`--width`) need clips with texts,
on which the layers are fitted (`espnet_dq.student.width`).

Example usage::

    python -Pm espnet_dq.bin.make_student --from openai:base --decoder_layers 2 --out base_2.pt
    python -Pm espnet_dq.bin.make_student --from openai:small --encoder_layers 0,2,5,8,11 \\
        --decoder_layers 2 --width 512 --data dump/raw/train --out student.pt
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.errors import run, say
from espnet_dq.student.smaller import CLIPS, make_student


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument("--out", type=Path, required=True, help=".pt checkpoint to write")
    for side in ("encoder", "decoder"):
        parser.add_argument(
            f"--{side}_layers",
            metavar="N|LIST",
            help="how many to keep: the first, the last and others evenly between (1: the last); "
            "or which ones, counted from 0: 0,3,5 (default: all)",
        )
    parser.add_argument(
        "--seconds", type=int, help="window, shorter than the source's (default: as the source)"
    )
    parser.add_argument("--width", type=int, help="channels, a multiple of 64 (default: all)")
    parser.add_argument("--data", type=Path, help="Kaldi folder with texts, for --width")
    parser.add_argument(
        "--clips",
        type=int,
        default=CLIPS,
        help="number of its clips, evenly over the names (%(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the student's checkpoint; returns 0."""
    say(make_student(**vars(get_parser().parse_args(argv))))
    return 0


if __name__ == "__main__":
    run(main)
