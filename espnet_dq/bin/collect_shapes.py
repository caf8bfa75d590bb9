"""Write the shape file that ESPnet batches by (stage 5), from tables alone."""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.data.shapes import write_shapes
from espnet_dq.errors import run


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="formatted Kaldi folder")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the file; returns 0."""
    args = get_parser().parse_args(argv)
    write_shapes(args.data, args.out)
    return 0


if __name__ == "__main__":
    run(main)
