"""Compare an exported file with the model it was made from: all that decides its output.

Example usage::

    python -Pm espnet_dq.bin.verify exp/asterisk_base_tiny_ct2_int8/export/student \\
        --against exp/asterisk_base_tiny_ct2_int8
"""

import json
from pathlib import Path

from espnet_dq.api.verification import verify
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.files import check_apart, check_replaceable, write_text
from espnet_dq.quant.table import SUFFIX
from espnet_dq.student.checkpoint import check_written


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("path", type=Path, help="exported file or folder to verify")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        help="experiment folder, or what `convert` read: a file or folder in any format",
    )
    parser.add_argument(
        "--grid",
        metavar="keep|none|GRID|FILE.yaml",
        help="where --against is what `convert` read: the grid that `convert` was given; keep: the "
        "source's own integers and scales",
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="where --against is a folder of LoRA adapters: as `convert` has it",
    )
    parser.add_argument("--json", type=Path, help="write the comparison to this file, too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0 if nothing differs, 1 if anything does.

    Raises:
        InputError: as `verify`, or --json would take the place of what is compared.
    """
    args = get_parser().parse_args(argv)
    if args.json:
        check_replaceable(args.json)
        for model in filter(None, (args.path, args.against, args.base)):
            check_written(args.json, model, "*")  # one file more would be a difference
        if args.grid and args.grid.endswith(SUFFIX):
            check_apart(args.json, args.grid)
    report = verify(args.path, args.against, args.grid, args.base)
    for line in report.lines():
        say(line)
    if args.json:
        content = {"path": str(args.path), "against": str(args.against)} | report.to_dict()
        write_text(args.json, json.dumps(content, indent=1) + "\n")
    return int(report.mismatched > 0)


if __name__ == "__main__":
    run(main)
