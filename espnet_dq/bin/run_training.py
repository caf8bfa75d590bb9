"""Run a training that stage 6 or 7 has prepared, and show how far it is.

What the script says is added to train.log beside it. On the screen stand steps, loss and the time
that is left. The exit code is the training's, 130 after an interrupt.
"""

import shlex
import signal
import subprocess
from pathlib import Path

from espnet_dq.bin.arguments import Parser
from espnet_dq.errors import InputError, run
from espnet_dq.jobs import BACKENDS, Jobs, run_jobs
from espnet_dq.task.progress import LOG, shown

GRACE = 10.0  # seconds that a training may take to end after an interrupt


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("script", type=Path, help="run.sh in ESPnet's output_dir")
    parser.add_argument("--backend", choices=BACKENDS, default="local", help="where (local)")
    parser.add_argument("--options", default="", help="options of sbatch, in one string")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run it; returns its exit code."""
    args = get_parser().parse_args(argv)
    script, log = args.script, args.script.with_name(LOG)
    if not script.is_file():
        raise InputError(f"{script}: no such file")
    with shown(script.parent):
        if args.backend == "local":
            return _here(script, log)
        jobs = Jobs(["bash", str(script)], 1, log)
        run_jobs(jobs, args.backend, options=shlex.split(args.options), show=False)
        return 0


def _here(script: Path, log: Path) -> int:
    with open(log, "ab") as file:
        training = subprocess.Popen(
            ["bash", script], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            close_fds=False,  # it holds the recipe's lock, too, should this process be killed
        )  # fmt: skip
    try:
        code = training.wait()
    except KeyboardInterrupt:  # which a terminal sends to both
        try:
            training.wait(GRACE)
        except subprocess.TimeoutExpired:
            _end(training)
        raise
    except BaseException:
        _end(training)
        raise
    return code if code >= 0 else 128 - code


def _end(training: subprocess.Popen) -> None:
    training.send_signal(signal.SIGTERM)
    training.wait()


if __name__ == "__main__":
    run(main)
