"""Say how long the trainings are, and write their configurations with that length (stage 3).

A configuration that fixes no length gets as many steps as its windows ask for. With --teacher and
--student a window of each is timed first, and stages 4, 6 and 7 are estimated from it.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import read_config
from espnet_dq.data.kaldi import read_scp
from espnet_dq.errors import InputError, run, say
from espnet_dq.quant.table import read_grid
from espnet_dq.task import plan
from espnet_dq.values import count, one_or_more


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("configs", type=Path, nargs="+", help="training configurations, 1 or 2")
    parser.add_argument(
        "--data", type=Path, nargs=2, metavar=("TRAIN", "DEV"), required=True, help="windows"
    )
    parser.add_argument("--out", type=Path, required=True, help="the experiment's folder")
    parser.add_argument("--grid", required=True, help="decides what configurations do not say")
    parser.add_argument("--steps", type=count, help="of the first training (by the data)")
    parser.add_argument("--epochs", type=one_or_more, help="the same, as passes over all windows")
    parser.add_argument("--qat_steps", type=count, help="of the second training")
    parser.add_argument("--teacher", type=Path, help=".pt, to be timed")
    parser.add_argument("--student", type=Path, help=".pt, to be timed")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write them; returns 0."""
    args = get_parser().parse_args(argv)
    if (args.teacher is None) != (args.student is None):
        raise InputError("--teacher and --student go together")
    wanted = plan.Wanted(args.steps, args.epochs, args.qat_steps)
    lengths = plan.plan(args.configs, args.data, args.out, wanted, read_grid(args.grid))
    for name, length in lengths.items():
        say(f"{name}: {length}")
    if args.teacher:
        from espnet_dq.task.pace import measure  # imports torch
        from espnet_dq.task.share import CHOICE, MOST_TRIED

        windows, dev = (len(read_scp(folder / "wav.scp")) for folder in args.data)
        pace = measure(args.teacher, args.student, read_config(args.configs[0]))
        times = {"teacher pass": (windows + dev) * pace.answer}
        times |= {name: pace.training(length, dev) for name, length in lengths.items()}
        if (args.out / CHOICE).is_dir():
            others = len(read_scp(args.out / CHOICE / "wav.scp"))
            times["merging"] = MOST_TRIED * (dev + others) * pace.hearing
        told = ", ".join(f"{name} {seconds / 60:.0f} min" for name, seconds in times.items())
        say(f"estimated from one window on this machine: {told}")
    return 0


if __name__ == "__main__":
    run(main)
