"""Choose a grid for each weight under a budget of bytes, from what `sensitivity` measured.

The result is a YAML file that `convert`, `verify`, training and the recipe take as `--grid`.

Example usage::

    python -Pm espnet_dq.bin.allocate --table table.jsonl --budget_mb 15 --out grids.yaml
"""

import math
from collections import Counter
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, run, say
from espnet_dq.files import check_apart, check_replaceable
from espnet_dq.quant.allocate import allocate, least_bytes
from espnet_dq.quant.sensitivity import Loss
from espnet_dq.quant.table import write_table
from espnet_dq.reading import loads, read_text
from espnet_dq.values import positive

MB = 1_000_000
_HEADER = 256  # bytes that a packed file's header needs for a tensor, at most


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
    check_replaceable(args.out)
    check_apart(args.out, args.table)
    model, fixed, losses = _table(args.table)
    least = (least_bytes(losses) + fixed) / MB
    if args.budget_mb < least:
        needed = math.ceil(1000 * least) / 1000
        raise InputError(f"--budget_mb {args.budget_mb:g}: at least {needed:.3f} is needed")
    chosen = allocate(losses, args.budget_mb * MB - fixed)
    total = sum(loss.bytes for loss in chosen.values()) + fixed
    kl = sum(loss.kl for loss in chosen.values())
    write_table(
        args.out,
        {name: loss.grid for name, loss in chosen.items()},
        f"From {args.table.name}, {model}: at most {args.budget_mb} MB.\n"
        f"Computed, not measured: {total} bytes packed, KL {kl:.5f} nats a token if losses add up.",
    )
    for grid, count in Counter(loss.grid for loss in chosen.values()).most_common():
        say(f"{grid}: {count} weights")
    say(f"{args.out}: {total} bytes when packed, at most")
    return 0


def _table(path: Path) -> tuple[str, int, dict[str, list[Loss]]]:
    """The model's name, the bytes that no choice changes, and what each grid costs."""
    losses: dict[str, list[Loss]] = {}
    where = str(path)
    try:
        head, *lines = read_text(path).splitlines()
        for number, line in enumerate(lines, 2):
            where = f"{path}:{number}"
            loss = Loss.parse(line)
            losses.setdefault(loss.name, []).append(loss)
        where = f"{path}:1"
        settings = loads(head)
        kept = {name for name, rows in losses.items() if any(r.grid == "none" for r in rows)}
        missing = {*map(str, settings["candidates"])} - kept
        # What no grid can be on stays, in float16, and so does the header.
        fixed = int(settings["rest_bytes"]) + _HEADER * 2 * int(settings["tensors"])
        model = str(settings["model"])
    except (ValueError, TypeError, KeyError, OverflowError) as e:
        raise InputError(f"{where}: not a table of `sensitivity`, or torn ({e})") from e
    if missing:
        raise InputError(f"{path}: {min(missing)} is not in it yet; run `sensitivity` to its end")
    return model, fixed, losses


if __name__ == "__main__":
    run(main)
