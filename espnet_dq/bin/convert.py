"""Convert a Whisper from any format that is read here to another, quantizing if asked.

Example usage::

    python -m espnet_dq.bin.convert --from openai:tiny --to ct2 --grid ct2_int8 --out tiny_int8
    python -m espnet_dq.bin.convert --from openai:base --to ggml --grid ggml_q5_0 --out base.bin
"""

import argparse
from pathlib import Path

import torch

from espnet_dq.errors import InputError, run
from espnet_dq.formats import detect, openai
from espnet_dq.formats.weights import Weights
from espnet_dq.formats.write import GRIDS, write
from espnet_dq.quant.checkpoint import quantize
from espnet_dq.quant.grids import EXPORT_GRIDS
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.quant.table import read_grid
from espnet_dq.whisper.fetch import default_cache, fetch
from espnet_dq.whisper.sources import MODELS


def main(argv: list[str] | None = None) -> int:
    """Convert; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="PATH|openai:NAME",
        help="file or folder in a format that is read here (detected), or "
        f"openai: and one of {', '.join(MODELS)}",
    )
    parser.add_argument("--to", required=True, choices=sorted(GRIDS), help="format to write")
    parser.add_argument(
        "--grid",
        default="none",
        metavar="none|GRID|FILE.yaml",
        help=f"round the weights to this grid: {', '.join(EXPORT_GRIDS)}, uniform2 to uniform8, "
        "uniform4_tensor, uniform4_g32, ..., or a file with one for each weight (default: none)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of the format")
    args = parser.parse_args(argv)

    weights = _load(args.source)
    quantized = {}
    if args.grid != "none":
        quantized = quantize(weights.state, assign_grids(weights.dims, read_grid(args.grid)))
    # Beside a grid the few floats that remain are float16, to keep the file small.
    # whisper.cpp takes nothing else.
    dtype = "float16" if quantized or args.to == "ggml" else _lossless(weights)
    write(args.to, args.out, weights, quantized, dtype)
    print(args.out)
    return 0


def _load(source: str) -> Weights:
    scheme, colon, name = source.partition(":")
    if not colon or scheme != "openai":
        return detect.load(source)
    if name not in MODELS:
        raise InputError(f"--from {source}: known models are {', '.join(MODELS)}")
    return openai.load(fetch(name, default_cache() / "pt", default_cache()))


def _lossless(weights: Weights) -> str:
    """float16 if that changes no value, else float32."""
    same = all(torch.equal(t.half().float(), t.float()) for t in weights.state.values())
    return "float16" if same else "float32"


if __name__ == "__main__":
    run(main)
