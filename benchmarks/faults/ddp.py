"""Training in two processes: against one, and with one of the two killed.

    .venv/bin/python -m benchmarks.faults.ddp --work FOLDER

Toys, seven utterances, batches of two, two and three: parts of one and of two utterances for the
two processes, which ESPnet itself spawns (as for two GPUs; gloo, on the CPU). A try is ok

- against one process with the same batches: when no weight and learned range, nothing of the
  projector (see `differences`) and no loss differs by more than 1e-5 (for a tensor, or a loss,
  whose largest value is above 1: of that value);
- with one killed by SIGKILL in the midst of training: when the job ends by itself within a minute,
  with exit code 1 and a last line that says so, and the same command then ends with the weights of
  an undisturbed run, bit for bit.

Lines go to results.jsonl; they take the place of those of an earlier run.
"""

import argparse
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import torch

from benchmarks.faults.results import RESULTS, put, result
from espnet_dq.distill.projector import Projector
from tests.task.toy_recipe import TEXTS, Recipe, short_windows

COMMAND = "python -m benchmarks.faults.ddp --work FOLDER"
# Long enough for the projector's least squares, which make more of rounding errors from few tokens.
SEVEN = tuple(" ".join([text] * 4) for text in (*TEXTS, "eins zwei"))
EPOCHS = 4
DEADLINE = 900  # seconds of a run: processes that wait for each other would wait for ever
ENDS = 60  # seconds in which a job must end when one of its processes has gone
# Float32's own spread: a weight up to 1 that is added to in each of 12 steps is rounded by 2^-24 at
# most each time, in both runs, which makes 1.4e-6. Gradients, which are sums in another order, have
# five digits in common, and a step is 1e-5 of a gradient. The rest is room for sums of more rounded
# values: the losses and the projector's.
NEAR = 1e-5

# Windows are full: others are as long as the longest utterance of a process's part. Small steps of
# SGD: Adam, or a range that is learned fast, makes a step of a rounding error.
OPTIONS = ("--batch_size", "2", "--max_epoch", str(EPOCHS), "--encoder_conf", "window=full",
           "--optim", "sgd", "--optim_conf", "lr=0.00001")  # fmt: skip
CONF = {"matching": "optimal_increasing", "matching_scope": "language", "preset": "full",
        "ranges": "lsq", "lambda_hidden": "auto"}  # fmt: skip
SPAWNED = ("--ngpu", "2", "--multiprocessing_distributed", "true", "--dist_backend", "gloo")


def one(recipe: Recipe, out: Path) -> Path:
    """Train in one process."""
    with open(out.with_suffix(".log"), "ab") as log:
        subprocess.run(
            recipe.command(out, *OPTIONS, **CONF), check=True, stderr=log, timeout=DEADLINE
        )
    return out


def start_two(recipe: Recipe, out: Path) -> subprocess.Popen:
    """Start training in two processes that ESPnet spawns."""
    command = recipe.command(out, *OPTIONS, *SPAWNED, module="tests.task.spawned", **CONF)
    with open(out.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, stderr=log, start_new_session=True)


def two(recipe: Recipe, out: Path) -> Path:
    """Train in two processes."""
    job = start_two(recipe, out)
    try:
        if job.wait(DEADLINE):
            raise RuntimeError(out.with_suffix(".log").read_text()[-2000:])
    finally:
        end(job)
    return out


def end(job: subprocess.Popen) -> None:
    """End what is left of a job."""
    for process in children(job.pid):
        process.kill()
    job.kill()
    job.wait()


def children(pid: int) -> list[psutil.Process]:
    """The spawned processes of a job, in the order of their ranks."""
    try:
        found = psutil.Process(pid).children()
        spawned = [p for p in found if "spawn_main" in " ".join(p.cmdline())]
        return sorted(spawned, key=lambda p: p.create_time())
    except psutil.NoSuchProcess:
        return []


def weights(out: Path, epoch: int = EPOCHS) -> dict[str, torch.Tensor]:
    """What training has saved after an epoch."""
    return torch.load(out / f"{epoch}epoch.pth", weights_only=True)


def losses(out: Path) -> list[float]:
    """The losses of training and validation, epoch by epoch."""
    stats = torch.load(out / "checkpoint.pth", weights_only=True)["reporter"]["stats"]
    return [stats[n][side]["loss"] for n in range(1, EPOCHS + 1) for side in ("train", "valid")]


def differences(a: Path, b: Path) -> dict[str, float]:
    """The largest difference of two runs in each kind of weight, and in the losses.

    Where the largest value of a tensor is above 1, it is a share of that. Of the projector's
    weight it is what training has added to least squares: these make as much of a rounding error in
    their sums as the sums' condition allows, 1e-5 of 1e-7, and what that is depends on the
    processor. The sums themselves are compared, and they say what least squares are. The term's
    weight, a ratio of gradients of which one goes through the map, may differ by the map's share
    more.
    """
    left, right = weights(a), weights(b)
    maps = [least_squares_apart(x) for x in (left, right)]
    share = float((maps[0] - maps[1]).norm() / maps[0].norm())
    if left.keys() != right.keys():
        raise ValueError(f"{a} and {b} have other weights: {left.keys() ^ right.keys()}")
    found: dict[str, float] = {"weights": 0.0, "projector": 0.0, "ranges": 0.0}
    for name, x in left.items():
        y = right[name]
        if not torch.equal(x.isnan(), y.isnan()):
            raise ValueError(f"{name} is not a number in one of {a} and {b}")
        x, y = x.double().nan_to_num(), y.double().nan_to_num()
        kind = "ranges" if name.endswith("_range") else "weights"
        kind = "projector" if "projector" in name else kind
        difference = float((x - y).abs().max() / max(1.0, float(x.abs().max())))
        if name == "projector.term_weight":
            difference -= share
        found[kind] = max(found[kind], difference)
    pairs = zip(losses(a), losses(b), strict=True)
    found["losses"] = max(abs(x - y) / max(1.0, abs(x)) for x, y in pairs)
    return found


def least_squares_apart(state: dict[str, torch.Tensor]) -> torch.Tensor:
    """The least squares of the projector in `state`, which keeps what was added to them."""
    own = {n.removeprefix("projector."): x for n, x in state.items() if n.startswith("projector.")}
    projector = Projector(*own["cross"].shape)
    projector.load_state_dict(own)
    start = projector.least_squares()
    state["projector.weight"] = own["weight"].double() - start
    return start


def kill_one(recipe: Recipe, out: Path, rank: int, seed: int) -> tuple[str, list[str]]:
    """Kill a process in the midst of training and go on; (the job's last line, what was wrong)."""
    log = out.with_suffix(".log")
    job = start_two(recipe, out)
    try:
        until = time.monotonic() + DEADLINE
        while f"2/{EPOCHS}epoch started" not in (log.read_text() if log.exists() else ""):
            if job.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{log}: training did not get to its second epoch")
            time.sleep(0.05)
        time.sleep(random.Random(seed).uniform(0.0, 0.5))
        processes = children(job.pid)
        processes[rank].send_signal(signal.SIGKILL)
        wrong = []
        try:
            code = job.wait(ENDS)
        except subprocess.TimeoutExpired:
            code = None
        last = log.read_text().strip().splitlines()[-1]
        if code != 1:
            wrong.append(f"exit code {code} (none: not ended after {ENDS} s)")
        if not re.match(r"espnet_dq: process \d of the training has ended", last):
            wrong.append(f"its last line: {last}")
        if any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
            wrong.append("a process is left")
    finally:
        end(job)
    return last, wrong


def main(argv: list[str] | None = None) -> int:
    """Run all; 0 if all is ok."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.faults.ddp", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for everything")
    parser.add_argument("--tries", type=int, default=4, help="how often one is killed (4)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, added to")
    args = parser.parse_args(argv)
    work = args.work.resolve()
    if work.exists():
        parser.error(f"--work {work}: is there already")
    recipe = short_windows(work / "recipe", SEVEN)
    first, both = one(recipe, work / "one"), two(recipe, work / "two")
    found = differences(first, both)
    told = ", ".join(f"{kind} {value:.1e}" for kind, value in found.items())
    near = int(max(found.values()) <= NEAR)
    said = f"largest differences after {EPOCHS} epochs: {told}"
    results = [result("two processes against one", 6, 1, near, COMMAND, said, differences=found)]
    print(results[-1]["happened"], flush=True)
    wrong, lasts = [], []
    for number in range(args.tries):
        out = work / f"killed{number}"
        last, faults = kill_one(recipe, out, number % 2, number)
        left, right = weights(two(recipe, out)), weights(both)
        if not all(torch.equal(left[x].nan_to_num(), right[x].nan_to_num()) for x in right):
            faults.append(f"other weights: {differences(both, out)}")
        print(f"rank {number % 2}: {last}: {faults or 'ok'}", flush=True)
        wrong.append(faults)
        lasts.append(last)
    happened = "the job ends with a line that says so; resumed, it has the weights of an "
    happened += "undisturbed run, bit for bit"
    happened = str(wrong) if any(wrong) else happened
    fault, good = "one of two training processes killed", sum(not x for x in wrong)
    more = {"said": sorted(set(lasts))}
    results.append(result(fault, 6, args.tries, good, COMMAND, happened, **more))
    put(args.out, COMMAND, results)
    return int(any(x["ok"] < x["tries"] for x in results))


if __name__ == "__main__":
    raise SystemExit(main())
