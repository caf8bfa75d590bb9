"""Train a student on its grid from Kaldi folders and export it, in one go.

Example usage::

    python -Pm espnet_dq.bin.distil --train data/train --dev data/dev --out exp/mine
"""

from pathlib import Path

from espnet_dq.api.training import SINGLES, distil
from espnet_dq.bin.arguments import Parser, add_balance
from espnet_dq.config import QuantConfig
from espnet_dq.data.pack import Balance
from espnet_dq.errors import run, say
from espnet_dq.task.plan import MERGE
from espnet_dq.values import count, one_or_more, seed, share, whole


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--train", type=Path, required=True, help="Kaldi folder to learn from")
    parser.add_argument("--dev", type=Path, required=True, help="Kaldi folder to choose epochs by")
    parser.add_argument("--out", type=Path, required=True, help="the experiment's folder")
    parser.add_argument(
        "--teacher", default="openai:base", help="path, openai:NAME or hf:USER/NAME (%(default)s)"
    )
    parser.add_argument(
        "--student", default="openai:tiny", help="the same choices (default: %(default)s)"
    )
    parser.add_argument(
        "--grid", default=QuantConfig.grid, help="grid, or a file (default: %(default)s)"
    )
    parser.add_argument(
        "--train_config",
        type=Path,
        nargs="+",
        help="configurations of the training in float and of that on the grid, or of one on the "
        "grid from the first step (default: the recipe's two)",
    )
    parser.add_argument(
        "--singles",
        type=whole,
        default=SINGLES["train"],
        help="utterances that also get their own window (%(default)s)",
    )
    add_balance(parser)
    parser.add_argument("--steps", type=count, help="of the first training (by the data)")
    parser.add_argument("--epochs", type=one_or_more, help="the same, as passes over all windows")
    parser.add_argument("--qat_steps", type=count, help="of the second training (by the first)")
    parser.add_argument(
        "--merge",
        type=share,
        metavar="SHARE",
        help="the second training starts between the untouched student, 0, and what the first made "
        f"of it, 1 (as dev and the canary like it best; without one {MERGE:g})",
    )
    parser.add_argument("--canary", type=Path, help="Kaldi folder of other people, with texts")
    parser.add_argument("--seed", type=seed, default=0, help="of packing and training (0)")
    parser.add_argument("--nj", type=count, help="processes that read audio (number of cores)")
    parser.add_argument("--ngpu", type=whole, default=0, help="GPUs to train on (0: the CPU)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train; returns 0."""
    args = get_parser().parse_args(argv)
    balance = Balance(args.temperature, args.max_hours)
    say(
        distil(
            args.train, args.dev, args.teacher, args.student, args.out, grid=args.grid,
            train_config=args.train_config, singles=args.singles, balance=balance,
            steps=args.steps, epochs=args.epochs, qat_steps=args.qat_steps, merge=args.merge,
            canary=args.canary, seed=args.seed, nj=args.nj, ngpu=args.ngpu,
        )
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    run(main)
