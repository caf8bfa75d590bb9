"""Run a command as many jobs, on this machine or on a Slurm cluster; JOB is a job's number."""

import signal
import sys
from pathlib import Path

from espnet_dq.bin.arguments import Parser, words
from espnet_dq.errors import run
from espnet_dq.jobs import BACKENDS, Jobs, run_jobs
from espnet_dq.values import count


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(
        __doc__,
        usage="%(prog)s [options] -- COMMAND with JOB",
        epilog="Jobs that failed are named with their logs; the same command runs only them again.",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="local", help="where (local)")
    parser.add_argument("--nj", type=count, required=True, help="number of jobs")
    parser.add_argument(
        "--log", type=Path, required=True, help="log of each job, as logs/decode.JOB.log"
    )
    parser.add_argument(
        "--options", type=words, default=[], help="options of sbatch, in one string"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run `python -Pm espnet_dq.bin.jobs [options] -- COMMAND`; see `run_jobs`."""
    parser, argv = get_parser(), sys.argv[1:] if argv is None else argv
    end = argv.index("--") if "--" in argv else len(argv)
    args, command = parser.parse_args(argv[:end]), argv[end + 1 :]
    if not command:
        parser.error("no command: it stands behind --")
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as an interrupt: jobs are ended, too
        signal.signal(ending, signal.default_int_handler)
    args.log.parent.mkdir(parents=True, exist_ok=True)
    jobs = Jobs(command, args.nj, args.log)
    run_jobs(jobs, args.backend, options=args.options)
    return 0


if __name__ == "__main__":
    run(main)
