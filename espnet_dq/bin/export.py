"""Export a trained student, on its grid, to the format of a runtime (stage 8).

Example usage::

    python -Pm espnet_dq.bin.export --exp exp/asterisk_base_tiny_ct2_int8 --to ct2 --out student
"""

import sys
from pathlib import Path

from espnet_dq.api.models import export, lost
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.formats.registry import written
from espnet_dq.student.checkpoint import CHECKPOINT


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment or training folder")
    parser.add_argument("--to", choices=written(), required=True, help="format to write")
    parser.add_argument("--out", type=Path, required=True, help="file, or folder of the format")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help=f"which one ({CHECKPOINT})")
    parser.add_argument(
        "--float", action="store_true", help="write the float weights in float16, not on the grid"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Export; returns 0."""
    args = get_parser().parse_args(argv)
    model = export(args.exp, args.out, args.to, args.checkpoint, args.float)
    if line := lost(args.to, model):
        say(line, sys.stderr)
    say(args.out)
    return 0


if __name__ == "__main__":
    run(main)
