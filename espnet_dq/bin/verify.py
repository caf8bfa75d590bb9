"""Compare an exported file with the model it was made from: all that decides its output.

Example usage::

    python -Pm espnet_dq.bin.verify exp/asterisk_base_tiny_ct2_int8/export/student \\
        --against exp/asterisk_base_tiny_ct2_int8
"""

import json
from collections import Counter
from pathlib import Path

from espnet_dq.api.verification import verify
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import one_line, run, say
from espnet_dq.files import atomic, check_replaceable
from espnet_dq.formats.report import NO_TENSORS, ON_GRID, OPEN, OTHER, SCALES, Report


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
    parser.add_argument("--json", type=Path, help="write the comparison to this file, too")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 0 if nothing differs, 1 if anything does."""
    args = get_parser().parse_args(argv)
    if args.json:
        check_replaceable(args.json)
    report = verify(args.path, args.against, args.grid)
    _print(report)
    if args.json:
        content = {"path": str(args.path), "against": str(args.against)} | report.to_dict()
        with atomic(args.json) as tmp:
            tmp.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return int(report.mismatched > 0)


def _print(report: Report) -> None:
    width = max(len(row.name) for row in report.rows)
    head = "shape  grid      bits      bytes    error  integers  scales  kind"
    print(f"{'name':{width}}  {head:>78}")
    for row in report.rows:
        shape = "x".join(map(str, row.shape)) or "-"
        error = "-" if row.error is None else f"{row.error:.5f}"
        print(
            f"{one_line(row.name):{width}}  {shape:>12}  {row.grid:9} {row.bits:4} "
            f"{row.bytes:10}  {error:>7} {row.integers:9} {row.scales:7}  {row.kind}"
        )
    total = report.to_dict()
    kinds = Counter(row.kind for row in report.rows)
    no_float = (ON_GRID, SCALES, OTHER, *NO_TENSORS)
    why = [f"{n} {kind}" for kind, n in kinds.items() if kind not in no_float]
    print(f"on a grid: {kinds[ON_GRID]} tensors, {total['grid_bytes']} bytes with their scales")
    print(f"in float: {', '.join(why) or 'nothing'}; {total['float_bytes']} bytes")
    left = [row.name for row in report.rows if row.kind == OPEN]
    if kinds[ON_GRID] and left:  # of a float file nothing was asked for
        say(f"in float although it could be on a grid: {', '.join(left)}")
    for row in report.rows:
        if row.note:
            say(f"{row.name}: {row.note}")
    print(
        f"on disk: {total['bytes_on_disk']} bytes; "
        f"by the paper's rule (counted): {total['paper_rule_bytes']} bytes"
    )
    print(f"{total['tensors']} tensors, {total['bytes']} bytes, {total['mismatched']} mismatched")


if __name__ == "__main__":
    run(main)
