"""Run a training that is prepared, here or on Slurm, and show how far it is (stages 6 and 7).

ESPnet's trainer runs in a process of its own; what it says is added to EXP/NAME/train.log. On the
screen stand steps, losses and the time that is left. The exit code is the training's, 130 after an
interrupt, 2 only if it could not begin. EXP/NAME/run.sh runs it again.
"""

from pathlib import Path

from espnet_dq.bin.arguments import Parser, words
from espnet_dq.config import PADDINGS, TRAININGS
from espnet_dq.errors import run
from espnet_dq.jobs import BACKENDS, Jobs, run_jobs
from espnet_dq.task.progress import LOG, shown
from espnet_dq.task.train import Training, run_here
from espnet_dq.values import count, seed, whole


def get_parser() -> Parser:
    """The command's options."""
    parser = Parser(__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="experiment, up to stage 5")
    parser.add_argument("--name", choices=TRAININGS, required=True, help="which training")
    parser.add_argument("--init", type=Path, required=True, help="checkpoint to start from")
    parser.add_argument("--teacher", type=Path, required=True, help="its .pt")
    parser.add_argument("--padding", choices=PADDINGS, required=True, help="of windows")
    parser.add_argument("--live", action="store_true", help="let the teacher answer in every step")
    parser.add_argument("--seed", type=seed, default=0, help="of the trainer (0)")
    parser.add_argument("--ngpu", type=whole, default=0, help="GPUs of each machine (0: the CPU)")
    parser.add_argument("--nodes", type=count, default=1, help="machines, on Slurm (1)")
    parser.add_argument("--backend", choices=BACKENDS, default="local", help="where (local)")
    parser.add_argument(
        "--options", type=words, default=[], help="more options of sbatch, in one string"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run it; returns its exit code."""
    args = get_parser().parse_args(argv)
    slurm = args.backend == "slurm"
    training = Training(
        args.exp, args.teacher, args.padding, args.seed, args.ngpu, args.nodes, slurm, args.live
    )
    script = training.prepare(args.name, args.init)
    with shown(script.parent):
        if not slurm:
            code = run_here(script)
            return 1 if code == 2 else code  # ESPnet's own says in the log what it does not take
        wanted = [*args.options, "--nodes", str(args.nodes), "--ntasks-per-node", "1"]
        wanted += ["--gpus-per-node", str(args.ngpu)] if args.ngpu else []
        jobs = Jobs(["bash", str(script)], 1, script.with_name(LOG))
        run_jobs(jobs, args.backend, options=wanted, show=False)
        return 0


if __name__ == "__main__":
    run(main)
