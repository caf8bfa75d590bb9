"""Rank a Whisper's weights by what is lost when one alone is put on a grid.

Example usage::

    python -Pm espnet_dq.bin.sensitivity --model tiny.pt --data data/dev --out table.jsonl
    python -Pm espnet_dq.bin.allocate --table table.jsonl --budget_mb 15 --out grids.yaml
    python -Pm espnet_dq.bin.convert --from tiny.pt --to packed --grid grids.yaml --out tiny.packed
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import run, say
from espnet_dq.student.sensitivity import CLIPS, GRIDS, measure
from espnet_dq.values import count


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="file or folder of any format, or an experiment"
    )
    parser.add_argument("--data", type=Path, required=True, help="Kaldi folder with texts")
    parser.add_argument(
        "--clips", type=count, default=CLIPS, help="of its utterances (%(default)s)"
    )
    parser.add_argument("--grids", nargs="+", default=GRIDS, metavar="GRID", help="what to try")
    parser.add_argument("--out", type=Path, required=True, help="table, JSON lines; is resumed")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure what is not in the table yet, and print the ranking; returns 0."""
    args = get_parser().parse_args(argv)
    rows = measure(args.model, args.data, args.out, args.grids, args.clips)
    for row in sorted((r for r in rows if r.grid != "none"), key=lambda r: r.kl, reverse=True):
        say(f"{row.kl:10.6f} {row.ce:+10.6f} {row.bytes:9} {row.grid:12} {row.name}")
    return 0


if __name__ == "__main__":
    run(main)
