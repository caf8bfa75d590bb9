"""Variants of the recipe x seeds, from one YAML file to one table with mean and spread.

    .venv/bin/python benchmarks/ablation.py benchmarks/ablations/matching.yaml [--dry_run]

Each run is the recipe itself (stages 1 to 10 and 12) in a folder of its own in --work, so a killed
one goes on where it stopped. Runs share data, weights, packed windows, the teacher's answers and
decoded texts where these are the same. When a run has ended, its lines are added to --out, one a
system and language, and WORK/RESULTS.md is written anew. What has lines is not run again, unless
the plan has changed. What a plan says: benchmarks/ablation_plan.py.

With --jobs N so many go on at a time, each on its part of the processor's cores, which a GPU with
many cores beside it is good for; times of such runs say little. With --trainings N so many of them
train at a time, as the GPU has memory for, while others prepare or are scored.

A seed decides how windows are packed, their order, and all else that is random: variants with the
same seed learn from the same windows, and the spread over seeds has all of it.
"""

import argparse
import errno
import fcntl
import itertools
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from threading import Event, Semaphore
from typing import BinaryIO

from ablation_plan import REFERENCES, Run, check, read_plan
from ablation_spread import render
from espnet_dq.errors import InputError, WorkError, run
from espnet_dq.files import write_text
from espnet_dq.reading import read_json
from espnet_dq.scoring.score import MAIN_RATES, MEAN
from espnet_dq.values import count

RECIPE = Path(__file__).resolve().parents[1] / "egs2/dq_whisper/asr1"
SYSTEMS = {"float_student": "float", "student": "quantized"}


def follow(command: list[str], name: str, log: Path, stop: Event) -> int:
    """Run a command with its output in `log`, showing the lines of dq.sh; returns its exit code.

    `name`: whose lines these are. `stop` ends the whole group of processes, and raises
    `KeyboardInterrupt`.
    """
    with open(log, "a", encoding="utf-8") as out:
        out.write(f"$ {shlex.join(command)}\n")
    with open(log, "ab") as out, open(log, "rb") as said:
        said.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True,
            close_fds=False,  # it holds the lock, too, should this process be killed
        )  # fmt: skip
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=1)
                _show(name, said)
                if child.returncode is not None:
                    return child.returncode
                if stop.is_set():
                    raise KeyboardInterrupt
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGTERM)
            child.wait()
            raise


def _show(name: str, said: BinaryIO) -> None:
    for line in said.readlines():
        if b"(dq.sh:" in line:
            sys.stderr.write(f"  {name}: {line.decode('utf-8', 'replace').rstrip()}\n")


def measure(each: Run, ablation: str, command: str) -> list[dict]:
    """What a finished run says: a line for each system and language.

    Hours are those of the recipe's stages, of one that was resumed since then.
    """
    found = list(each.folder.glob("*/results.json"))
    if len(found) != 1:
        raise WorkError(f"{each.folder}: {len(found)} results.json, not one")
    exp = found[0].parent
    results = read_json(found[0])
    seconds = {int(f.name): int(f.read_text()) for f in (exp / "done").iterdir()}
    variant = each.variant
    student, teacher = (Path(variant.get(model)).stem for model in ("student", "teacher"))
    lines = []
    for system in results["systems"]:
        name = system["name"]
        about: dict = {"ablation": ablation}
        if name in SYSTEMS:
            about |= {"variant": variant.name, "settings": variant.settings(), "student": student}
            about |= {"teacher": teacher, "seed": each.seed, "system": SYSTEMS[name]}
        elif name in REFERENCES:
            known, settings, _ = variant.reference(name)
            about |= {"variant": known, "settings": settings}
            about |= {"student": student if name == "untouched" else None}
            about |= {"teacher": teacher if name == "teacher" else None, "seed": None}
            about |= {"system": "float"}
        else:
            continue
        counts = read_json(exp / "decode" / name / "score" / "score.json")["counts"]
        about |= {"corpus": variant.get("corpus"), "grid": system["grid"]}
        for lang in counts:
            rates = {rate: system[rate][lang] for rate in MAIN_RATES}
            line = {**about, "lang": lang, **rates, "utterances": counts[lang]["utterances"]}
            if name in SYSTEMS:
                training = sum(seconds.get(stage, 0) for stage in (6, 7))
                line["train_hours"] = round(training / 3600, 3)
                line["hours"] = round(sum(seconds.values()) / 3600, 3)
            line |= {"date": results["date"], "commit": results["commit"], "command": command}
            lines.append(line)
    return lines


def read_lines(path: Path, ablation: str) -> list[dict]:
    """The lines of an ablation; none if there is no such file."""
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError as e:
            raise InputError(f"{path}:{number}: not JSON: {e.msg}") from None
        if line.get("ablation") == ablation:
            lines.append(line)
    return lines


def add_lines(path: Path, lines: list[dict]) -> None:
    """Append all of them, or, on a full disk, none."""
    with open(path, "ab", buffering=0) as out:
        before = out.tell()
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        try:
            if out.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            out.truncate(before)
            raise


def write_table(path: Path, plan: Path, runs: list[Run], lines: list[dict], failed: dict) -> None:
    """The table of the plan's runs that have ended, and which failed."""
    references = {each.variant.reference(name) for each in runs for name in REFERENCES}
    order = dict.fromkeys(references, -1) | {each.key: n for n, each in enumerate(runs)}
    shown = [x for x in lines if line_key(x) in order]
    shown.sort(key=lambda x: order[line_key(x)])
    ended = {line_key(x) for x in shown if x["seed"] is not None}
    head = [
        f"# Ablation {plan.stem}",
        "",
        f"- {len(ended)} of {len(runs)} runs have ended; commits: "
        f"{', '.join(sorted({x['commit'] for x in shown}))}",
        *(f"- failed: {each} ({reason})" for each, reason in failed.items()),
        f"- WER and CER in percent; {MEAN}: of the languages; ±: standard deviation over seeds "
        "(n - 1); in brackets the lowest and the highest",
        "- a seed decides how windows are packed, their order and all else that is random",
        f"- differences: of the {MEAN}, paired by seed, each pair by itself: of many pairs some "
        "exceed the spread by chance. How much another test set would change is not in them",
    ]
    write_text(path, "\n".join(head) + f"\n\n{render(shown)}")


def line_key(line: dict) -> tuple:
    """`Run.key` of the run that a line is of, or `Variant.reference` of its reference."""
    return line["variant"], line.get("settings"), line["seed"]


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hold the work folder, after whoever holds it: another start, or what a killed one left."""
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{work}: a run of an earlier start is at work: waiting for it", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def turn(places: Semaphore, stop: Event) -> Iterator[None]:
    """Hold one of the places, once one is free; `stop` as in `follow`."""
    while not places.acquire(timeout=1):
        if stop.is_set():
            raise KeyboardInterrupt
    try:
        if stop.is_set():  # which may be why the place became free
            raise KeyboardInterrupt
        yield
    finally:
        places.release()


def perform(
    each: Run, ablation: str, recipe: Path, trainings: Semaphore, stop: Event
) -> list[dict]:
    """Run one, or what is left of it, and return its lines; `trainings`: the places for these.

    Raises:
        WorkError: naming the log.
    """
    print(f"{each}: {each.log}", file=sys.stderr)
    try:
        each.folder.mkdir(exist_ok=True)
        commands = each.commands(recipe)
        trained = any(each.folder.glob("*/done/7"))
        for doing, command in commands.items():
            trains = doing == "train" and not trained
            with turn(trainings, stop) if trains else nullcontext():
                code = follow(command, str(each), each.log, stop)
            if code:
                raise WorkError(f"exit code {code}, log: {each.log}")
        return measure(each, ablation, shlex.join(commands["score"]))
    except (InputError, OSError, ValueError) as e:
        raise WorkError(f"{e}, log: {each.log}") from e


def performed(
    todo: list[Run], ablation: str, recipe: Path, jobs: int, trainings: int
) -> Iterator[tuple[Run, list[dict] | WorkError]]:
    """Each run, as it ends, with its lines or why there are none.

    `jobs` at a time, of which `trainings` train at a time.
    """
    jobs, places, stop = max(1, min(jobs, len(todo))), Semaphore(trainings), Event()
    pool = ThreadPoolExecutor(jobs, initializer=shares(jobs))
    try:
        started = {
            pool.submit(perform, each, ablation, recipe, places, stop): each for each in todo
        }
        for ended in as_completed(started):
            try:
                yield started[ended], ended.result()
            except WorkError as e:
                yield started[ended], e
    finally:
        stop.set()  # an interruption reaches only the main thread
        pool.shutdown(cancel_futures=True)


def shares(jobs: int) -> Callable[[], None]:
    """Give each of so many threads its own part of the processor's cores, to be called in each.

    What a thread starts keeps to these, and takes their number for that of the machine: programs
    that each take the whole machine for theirs wait for one another most of the time.
    """
    if not hasattr(os, "sched_setaffinity"):  # not Linux
        return lambda: None
    cores, number = sorted(os.sched_getaffinity(0)), itertools.count()

    def take() -> None:
        first = next(number)
        os.sched_setaffinity(0, cores[first::jobs] or [cores[first % len(cores)]])

    return take


def outlook(left: int, runs: list[Run], lines: list[dict], jobs: int) -> str:
    """How much is left, by the median of the runs that have ended, `jobs` at a time."""
    hours = {line_key(x): x["hours"] for x in lines if x["seed"] is not None}
    about = ""
    if hours and left:
        about = f", about {-(-left // jobs) * statistics.median(hours.values()):.1f} h"
    return f"{left} of {len(runs)} runs left{about}"


def main(argv: list[str] | None = None) -> int:
    """Run what is missing; returns 0, or raises `WorkError` naming the runs that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", type=Path, help="YAML file, see benchmarks/ablations")
    parser.add_argument("--work", type=Path, help="folder of the runs (RECIPE/exp/ablations/PLAN)")
    parser.add_argument("--out", type=Path, help="JSON lines, appended to (WORK/results.jsonl)")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="folder with run.sh")
    parser.add_argument("--jobs", type=count, default=1, help="runs at a time (1)")
    parser.add_argument("--trainings", type=count, help="of these, trainings at a time (all)")
    parser.add_argument("--dry_run", action="store_true", help="print the commands that are left")
    args = parser.parse_args(argv)
    # Relative, so that the commands in the results say nothing of this machine.
    recipe, ablation = Path(os.path.relpath(args.recipe)), args.plan.stem
    work = args.work or recipe / "exp/ablations" / ablation
    out = args.out or work / "results.jsonl"
    variants, seeds = read_plan(args.plan, recipe)
    # Seed by seed, so that all variants can be compared early.
    runs = [Run(variant, seed, work) for seed in seeds for variant in variants]

    def left() -> list[Run]:
        done = {line_key(x) for x in read_lines(out, ablation)}
        return [each for each in runs if each.key not in done]

    for variant in dict.fromkeys(each.variant.name for each in left()):
        print(f"checking {variant}", file=sys.stderr)
        check(args.plan, next(v for v in variants if v.name == variant), recipe)
    if args.dry_run:
        for each in left():
            print(" && ".join(map(shlex.join, each.commands(recipe).values())))
        print(outlook(len(left()), runs, read_lines(out, ablation), args.jobs), file=sys.stderr)
        return 0

    failed: dict[Run, str] = {}
    with alone(work):
        todo = left()
        for each in todo:  # before they run: those of one variant share them
            each.write_configs()

        def tell(ended: int) -> None:
            lines = read_lines(out, ablation)
            write_table(work / "RESULTS.md", args.plan, runs, lines, failed)
            print(outlook(len(todo) - ended, runs, lines, args.jobs), file=sys.stderr)

        tell(0)
        trainings = args.trainings or args.jobs
        with closing(performed(todo, ablation, recipe, args.jobs, trainings)) as results:
            for number, (each, result) in enumerate(results, 1):
                if isinstance(result, WorkError):
                    failed[each] = str(result)
                    print(f"{each}: {result}", file=sys.stderr)
                else:
                    known = {line_key(x) for x in read_lines(out, ablation) if x["seed"] is None}
                    add_lines(out, [x for x in result if line_key(x) not in known])
                tell(number)
    print(work / "RESULTS.md")
    if failed:
        named = "; ".join(f"{each}: {reason}" for each, reason in failed.items())
        raise WorkError(f"{len(failed)} of {len(todo)} runs failed: {named}")
    return 0


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    run(main)
