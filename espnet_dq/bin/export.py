"""Export a trained student, on its grid, to the format of a runtime (stage 8).

Example usage::

    python -m espnet_dq.bin.export --exp exp/asterisk_base_tiny_ct2_int8 --to ct2 --out student
"""

import argparse
from pathlib import Path

import torch

from espnet_dq.errors import InputError, run
from espnet_dq.formats import ctranslate2_writer, openai
from espnet_dq.formats.weights import Weights
from espnet_dq.quant.checkpoint import CHECKPOINT, load_student
from espnet_dq.quant.grids import get_grid


def main(argv: list[str] | None = None) -> int:
    """Export; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True, help="experiment or training folder")
    parser.add_argument("--to", choices=["ct2", "openai"], required=True, help="format to write")
    parser.add_argument("--out", type=Path, required=True, help="folder (ct2) or file (openai)")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help=f"which one ({CHECKPOINT})")
    parser.add_argument(
        "--float", action="store_true", help="the float weights in float16, whatever the grid"
    )
    args = parser.parse_args(argv)
    student = load_student(args.exp, args.checkpoint)
    if args.to == "openai":
        # Values on a grid need float32: float16 would move them off it.
        state = student.state if args.float else student.reference_weights()
        openai.save(args.out, Weights(student.dims, state), dtype=torch.float32)
    else:
        grids = {} if args.float else student.grids
        other = sorted(set(grids.values()) - {"ct2_int8"})
        if other:
            raise InputError(f"grid {other[0]} does not fit ct2, which holds ct2_int8")
        quantized = {n: get_grid(g).quantize(student.state[n]) for n, g in grids.items()}
        weights = Weights(student.dims, student.state)
        ctranslate2_writer.save(args.out, weights, quantized, float_dtype="float16")
    print(args.out)
    return 0


if __name__ == "__main__":
    run(main)
