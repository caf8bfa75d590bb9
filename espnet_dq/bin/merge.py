"""Merge Whispers that came from one: the mean of their weights, each with its share.

A student that learned voices gets back some of what it forgot when it is merged with the model
that it started from; `benchmarks/transfer.py` shows which share is best. Shares are 1 together; one
below 0 takes away. What is merged are values: a model on a grid leaves it, so round the result
(`espnet_dq.bin.convert --grid`), or train it on the grid (run.sh --student).

Example usage::

    python -Pm espnet_dq.bin.merge --models openai:tiny exp/asterisk_base_tiny_ct2_int8/kd \\
        --shares 0.5 0.5 --out merged.pt
"""

from pathlib import Path

from espnet_dq.api.models import merge, save
from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, run, say
from espnet_dq.fetch.names import source_path
from espnet_dq.files import check_replaceable
from espnet_dq.student.checkpoint import check_written


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument(
        "--models",
        nargs="+",
        required=True,
        metavar="PATH|openai:NAME",
        help="two or more: any format, or the folder of a training",
    )
    parser.add_argument(
        "--shares", nargs="+", type=float, help="of each model (default: as much of each)"
    )
    parser.add_argument("--out", type=Path, required=True, help=".pt checkpoint to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the merged checkpoint; returns 0."""
    args = get_parser().parse_args(argv)
    check_replaceable(args.out)
    if args.out.suffix != ".pt":
        raise InputError(f"--out {args.out}: a .pt file is written")
    sources = [source_path(model) for model in args.models]
    for source in sources:
        check_written(args.out, source)
    merged = merge(sources, args.shares)
    save(merged, args.out)
    shares = args.shares or [1 / len(sources)] * len(sources)
    said = ", ".join(f"{share:g} of {m}" for m, share in zip(args.models, shares, strict=True))
    say(f"{args.out}: {said}")
    return 0


if __name__ == "__main__":
    run(main)
