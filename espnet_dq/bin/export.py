"""Export a trained student, on its grid, to the format of a runtime (stage 8).

Example usage::

    python -Pm espnet_dq.bin.export --exp exp/asterisk_base_tiny_ct2_int8 --to ct2 --out student
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.formats.weights import Weights
from espnet_dq.formats.write import GRIDS, check_out, write
from espnet_dq.quant.checkpoint import CHECKPOINT, load_student


def main(argv: list[str] | None = None) -> int:
    """Export; returns 0."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment or training folder")
    parser.add_argument("--to", choices=sorted(GRIDS), required=True, help="format to write")
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of the format")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help=f"which one ({CHECKPOINT})")
    parser.add_argument(
        "--float", action="store_true", help="write the float weights in float16, not on the grid"
    )
    args = parser.parse_args(argv)
    check_out(args.to, args.out)
    student = load_student(args.exp, args.checkpoint)
    # A float checkpoint for torch keeps float32; the runtimes' files have float16 beside a grid.
    dtype = "float32" if args.to == "openai" else "float16"
    quantized = {} if args.float else student.quantized()
    write(args.to, args.out, Weights(student.dims, student.state), quantized, dtype)
    say(args.out)
    return 0


if __name__ == "__main__":
    run(main)
