"""Convert a Whisper from any format that is read here to another, quantizing if asked.

Weights that are on a grid already keep their integers and scales, unless `--grid` says otherwise.

Example usage::

    python -Pm espnet_dq.bin.convert --from openai:tiny --to ct2 --grid ct2_int8 --out tiny_int8
    python -Pm espnet_dq.bin.convert --from openai:base --to ggml --grid ggml_q5_0 --out base.bin
    python -Pm espnet_dq.bin.convert --from base.bin --to packed --out base.safetensors
"""

import sys
from pathlib import Path

from espnet_dq.api.models import convert, lost
from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.errors import InputError, run, say
from espnet_dq.formats.registry import written
from espnet_dq.quant.gptq import CLIPS
from espnet_dq.quant.grids import GRIDS


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument(
        "--base",
        metavar="PATH|openai:NAME|hf:USER/NAME",
        help="of a folder of LoRA adapters: the model that they are merged into (default: as the "
        "folder names it)",
    )
    parser.add_argument("--to", required=True, choices=written(), help="format to write")
    parser.add_argument(
        "--grid",
        default="keep",
        metavar="keep|none|GRID|FILE.yaml",
        help="keep (default): integers and scales as in the source, if it has any; none: floats; "
        f"or round the weights to this grid: {', '.join(GRIDS)}, uniform2 to uniform8, "
        "uniform4_tensor, uniform4_g32, ..., or a file with one for each weight",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="Kaldi folder with texts: round so that what layers say on its clips changes least "
        "(GPTQ), which matters at 4 bits (default: each weight to its nearest value)",
    )
    parser.add_argument("--clips", type=int, help=f"how many of its clips ({CLIPS})")
    parser.add_argument(
        "--half",
        action="store_true",
        help="of transformers_js: with files that compute in float16, too, for GPUs (dtype fp16 of "
        "floats, q4f16 of ggml_q4_0)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of the format")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Convert; returns 0."""
    args = get_parser().parse_args(argv)
    if args.clips is not None and args.data is None:
        raise InputError("--clips goes with --data")
    clips = CLIPS if args.clips is None else args.clips
    model = convert(
        args.source, args.out, args.to, args.grid, args.base, args.data, clips, args.half
    )
    if line := lost(args.to, model):
        say(line, sys.stderr)
    say(args.out)
    return 0


if __name__ == "__main__":
    run(main)
