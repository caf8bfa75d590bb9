"""Choose a grid for each weight under a budget of bytes, from what `sensitivity` measured.

The result is a YAML file that `convert`, `verify`, training and the recipe take as `--grid`.

Example usage::

    python -Pm espnet_dq.bin.allocate --table table.jsonl --budget_mb 15 --out grids.yaml
"""

from collections import Counter
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.quant.allocate import allocate_table
from espnet_dq.values import positive


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--table", type=Path, required=True, help="what `sensitivity` wrote")
    parser.add_argument(
        "--budget_mb", type=positive, required=True, help="largest packed file, in 10^6 bytes"
    )
    parser.add_argument("--out", type=Path, required=True, help="YAML file to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the choice; returns 0."""
    args = get_parser().parse_args(argv)
    chosen, total = allocate_table(args.table, args.budget_mb, args.out)
    for grid, count in Counter(loss.grid for loss in chosen.values()).most_common():
        say(f"{grid}: {count} weights")
    say(f"{args.out}: {total} bytes when packed, at most")
    return 0


if __name__ == "__main__":
    run(main)
