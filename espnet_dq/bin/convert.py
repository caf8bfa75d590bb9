"""Convert a Whisper from any format that is read here to another, quantizing if asked.

Weights that are on a grid already keep their integers and scales, unless `--grid` says otherwise.

Example usage::

    python -Pm espnet_dq.bin.convert --from openai:tiny --to ct2 --grid ct2_int8 --out tiny_int8
    python -Pm espnet_dq.bin.convert --from openai:base --to ggml --grid ggml_q5_0 --out base.bin
    python -Pm espnet_dq.bin.convert --from base.bin --to packed --out base.safetensors
"""

import sys
from pathlib import Path

from espnet_dq.bin.arguments import Parser, add_source
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_apart
from espnet_dq.formats import detect, integers
from espnet_dq.formats.weights import Weights
from espnet_dq.formats.write import GRIDS, WITH_GENERATION, check_grids, check_out, write
from espnet_dq.quant.checkpoint import quantize
from espnet_dq.quant.grids import EXPORT_GRIDS, Quantized
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.quant.table import read_grid
from espnet_dq.whisper.fetch import source_path


def main(argv: list[str] | None = None) -> int:
    """Convert; returns 0."""
    parser = Parser(__doc__)
    add_source(parser)
    parser.add_argument("--to", required=True, choices=sorted(GRIDS), help="format to write")
    parser.add_argument(
        "--grid",
        default="keep",
        metavar="keep|none|GRID|FILE.yaml",
        help="keep (default): integers and scales as in the source, if it has any; none: floats; "
        f"or round the weights to this grid: {', '.join(EXPORT_GRIDS)}, uniform2 to uniform8, "
        "uniform4_tensor, uniform4_g32, ..., or a file with one for each weight",
    )
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of the format")
    args = parser.parse_args(argv)
    check_out(args.to, args.out)

    source = source_path(args.source)
    check_apart(args.out, source)
    weights, quantized, rounds = detect.load(source), {}, args.grid not in ("keep", "none")
    if rounds:
        quantized = quantize(weights.state, assign_grids(weights.dims, read_grid(args.grid)))
    elif args.grid == "keep":
        quantized = _kept(source, weights, args.to)
    # Where weights are rounded, the few floats beside them are float16, to keep the file small.
    # whisper.cpp takes nothing else.
    dtype = (
        "float16"
        if rounds or args.to == "ggml"
        else weights.lossless(weights.state.keys() - quantized.keys())
    )
    write(args.to, args.out, weights, quantized, dtype)
    if weights.generation is not None and args.to not in WITH_GENERATION:
        say(
            f"{args.to} has no place for the source's own settings of decoding (suppressed tokens, "
            "languages, alignment heads): OpenAI's hold",
            sys.stderr,
        )
    say(args.out)
    return 0


def _kept(source: Path, weights: Weights, form: str) -> dict[str, Quantized]:
    """What the source has on a grid; `InputError` names the ways out if `form` cannot hold it."""
    quantized = integers.load(source)
    if not quantized:
        return {}
    try:
        check_grids(form, weights.dims, {name: q.grid for name, q in quantized.items()})
    except InputError as e:
        raise InputError(
            f"{source}: {e}: to round its values again say --grid {' or '.join(GRIDS[form])}, "
            "for floats --grid none"
        ) from e
    return quantized


if __name__ == "__main__":
    run(main)
