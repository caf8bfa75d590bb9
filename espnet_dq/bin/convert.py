"""Convert a Whisper from any format that is read here to another, quantizing if asked.

Example usage::

    python -m espnet_dq.bin.convert --from openai:tiny --to ct2 --grid ct2_int8 --out tiny_int8
"""

import argparse
from pathlib import Path

import torch

from espnet_dq.errors import InputError, run
from espnet_dq.formats import ctranslate2_writer, detect, openai
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import grid_weights
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
        help="checkpoint (.pt), ggml file, CTranslate2 or ONNX q8 folder (detected), or "
        f"openai: and one of {', '.join(MODELS)}",
    )
    parser.add_argument("--to", required=True, choices=["openai", "ct2"], help="format to write")
    parser.add_argument(
        "--grid",
        default="none",
        choices=["none", "ct2_int8"],
        help="round the weights to this grid (default: none)",
    )
    parser.add_argument("--out", type=Path, required=True, help="file (openai) or folder (ct2)")
    args = parser.parse_args(argv)

    if args.to == "openai" and args.out.is_dir():
        raise InputError(f"{args.out}: is a folder, --to openai writes a file")
    if args.to == "ct2" and args.out.is_file():
        raise InputError(f"{args.out}: is a file, --to ct2 writes a folder")
    weights = _load(args.source)
    quantized = {}
    if args.grid != "none":
        grid = get_grid(args.grid)
        quantized = {n: grid.quantize(weights.state[n]) for n in grid_weights(weights.dims)}
    if args.to == "openai":
        values = {name: grid.dequantize(q) for name, q in quantized.items()}
        weights = Weights(weights.dims, weights.state | values)
        openai.save(args.out, weights, dtype=_lossless(weights))
    else:
        # On the int8 grid the few floats that remain are float16, to keep the file small.
        dtype = torch.float16 if quantized else _lossless(weights)
        name = str(dtype).removeprefix("torch.")
        ctranslate2_writer.save(args.out, weights, quantized, float_dtype=name)
    print(args.out)
    return 0


def _load(source: str) -> Weights:
    scheme, colon, name = source.partition(":")
    if not colon or scheme != "openai":
        return detect.load(source)
    if name not in MODELS:
        raise InputError(f"--from {source}: known models are {', '.join(MODELS)}")
    return openai.load(fetch(name, default_cache() / "pt", default_cache()))


def _lossless(weights: Weights) -> torch.dtype:
    """float16 if that changes no value, else float32."""
    same = all(torch.equal(t.half().float(), t.float()) for t in weights.state.values())
    return torch.float16 if same else torch.float32


if __name__ == "__main__":
    run(main)
