"""End what killed runs have left in an experiment: jobs on Slurm, and temporary files.

The numbers of the jobs stand in hidden folders beside their logs; it is waited until they have
ended. Files and folders are known by the whole form of their names.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.config import TRAININGS
from espnet_dq.errors import run
from espnet_dq.files import remove_left
from espnet_dq.jobs import end_left

LOGS = ("logs/*", *TRAININGS)  # folders of logs in an experiment: of a stage's jobs, of trainings


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment")
    parser.add_argument(
        "--alone",
        action="store_true",
        help="nobody else can be at work there; without it nothing is removed",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """End and remove it; returns 0."""
    args = get_parser().parse_args(argv)
    for logs in LOGS:
        for note in sorted(args.exp.glob(f"{logs}/.*/slurm")):
            end_left(note, args.alone)
    if args.alone:
        remove_left(args.exp)
    return 0


if __name__ == "__main__":
    run(main)
