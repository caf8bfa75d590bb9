"""Measure the range of every linear layer's input on real clips, for `activations: int8_static`.

Example usage::

    python -Pm espnet_dq.bin.calibrate --model exp/student --data dump/raw/train --out ranges.json
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.student.calibration import CLIPS, calibrate


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="checkpoint (.pt), or an experiment folder, its weights as they were trained",
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="Kaldi folder; its texts are fed to the decoder"
    )
    parser.add_argument("--out", type=Path, required=True, help="file of ranges (JSON)")
    parser.add_argument(
        "--clips",
        type=int,
        default=CLIPS,
        help="clips, spread evenly over the folder's names (%(default)s)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Calibrate; returns 0."""
    args = get_parser().parse_args(argv)
    found = calibrate(args.model, args.data, args.out, args.clips)
    for layer, top in found.tops.items():
        say(f"{layer}: {top:.4g}, in {found.rows[layer]} rows")
    say(args.out)
    return 0


if __name__ == "__main__":
    run(main)
