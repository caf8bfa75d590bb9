"""A chain of faults: the recipe from its start to its end, interrupted in every stage."""

import json
import os
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.faults import judge
from benchmarks.faults.recipe import ROOT, STAGES, Place, Reference, Run, counting
from espnet_dq.files import write_text

FULL = re.compile(r"No space left on device|are free")
READ_ONLY = re.compile(r"Read-only file system")
WRITTEN = {1: "dump", 2: "dump", 3: "exp", 4: "shared", 7: "exp", 9: "shared", 12: "exp"}
ROOM = "size=8g"  # of a disk that is not full
JUMPS = ("+400d", "-400d", "+3h", "-3h", "+20y", "-2d")
DAY = 86400  # seconds
SHORTENED = {11: ("kill", "clock")}  # which takes as long as many others
TRAININGS = {6: "kd", 7: "qat"}


@dataclass
class Try:
    """One fault: in which stage it came, how, what was said, and what was wrong afterwards."""

    fault: str
    stage: int
    how: str
    said: str = ""
    wrong: list[str] = field(default_factory=list)


class Chain:
    """The tries in one place, kept in a file so that a killed harness goes on."""

    def __init__(self, place: Place, known: Reference, faults: list[str], last: int) -> None:
        self.place, self.known, self.faults, self.last = place, known, faults, last
        self.file = place.beside("tries") / "tries.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.kept = {tuple(key): made for key, made in map(json.loads, lines)}
        self.clock = place.beside("tmp") / "clock"
        self.environment: dict[str, str] = {}
        if "clock" in faults:
            self.clock.write_text("+0\n")
            self.environment = {
                "LD_PRELOAD": faketime(),
                "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # no jump of the clock moves this one
                "NO_FAKE_STAT": "1",  # files' times are the kernel's: see `_times`
            }

    def run(self) -> list[Try]:
        """All faults in all stages, and the end."""
        with ExitStack() as stack:
            if "disk" in self.faults:
                stack.enter_context(in_memory(self.place.folder))
            if "readonly" in self.faults:
                stack.enter_context(read_only(self.place.toys))
            for stage in STAGES[: self.last]:
                for fault in self.faults:
                    if fault not in SHORTENED.get(stage, FAULTS):
                        continue
                    if (fault, stage) not in self.kept and self.go_to(stage):
                        chosen = random.Random(f"{self.place.folder.name} {fault} {stage}")
                        self.keep(fault, stage, FAULTS[fault](self, stage, chosen))
            return self.end()

    def keep(self, fault: str, stage: int, made: Try | None) -> None:
        """Note a try; None: there was nothing to try, or the stage was over too early."""
        self.kept[fault, stage] = asdict(made) if made else None
        self.save()
        if made:
            verdict = made.wrong or "ok"
            print(f"  {made.fault}, stage {made.stage}, {made.how}: {verdict}", flush=True)

    def save(self) -> None:
        """Write the tries down."""
        write_text(self.file, "".join(json.dumps(pair) + "\n" for pair in self.kept.items()))

    def go_to(self, stage: int) -> bool:
        """Finish the stages before one; False if that one is finished already."""
        if set(range(1, stage)) - judge.finished(self.place.exp):
            self.undisturbed("--stop_stage", str(stage - 1))
        return stage not in judge.finished(self.place.exp)

    def start(self, *options: str, **environment: str) -> Run:
        """Start the recipe, or go on with it, to `last` unless the options say less."""
        options = options or ("--stop_stage", str(self.last))
        return self.place.start(*options, **self.environment, **environment)

    def start_in(self, stage: int, share: float, *options: str) -> Run:
        """Start it, and wait for a moment in a stage: so much of the CPU time that it takes."""
        run = self.start(*options)
        run.wait(lambda: run.stage() >= stage)
        moment = run.cpu_seconds() + share * self.known.stage(stage)["cpu_seconds"]
        run.wait(lambda: run.cpu_seconds() >= moment)
        return run

    def undisturbed(self, *options: str) -> Run:
        """A run without a fault, which must succeed."""
        run = self.start(*options)
        run.wait()
        wrong = self.place.faults([run])
        if run.process.returncode:
            wrong.append(f"did not go on: {run.log}: {last_line(run)}")
        if wrong:
            if made := [each for each in self.kept.values() if each]:
                made[-1]["wrong"] += wrong
                self.save()
            raise SystemExit("\n".join(wrong))
        return run

    def end(self) -> list[Try]:
        """Finish the recipe and compare; what is wrong in the end was wrong with every try."""
        tries = [Try(**made) for made in self.kept.values() if made]
        self.undisturbed("--stop_stage", str(self.last))
        known, found = self.known.outcome(self.last), judge.outcome(self.place.exp, self.last)
        wrong = [f"the end differs in {key}" for key in judge.differing(known, found)]
        wrong += [f"{path}: left behind" for path in judge.leftovers(self.place.folder / "exp")]
        for each in tries:
            each.wrong += wrong
        print(f"  end: {wrong or 'as the undisturbed run'}", flush=True)
        return tries


def last_line(run: Run) -> str:
    """What a run said last, without its folders."""
    lines = [line for line in run.said().splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    return line.replace(f"{run.place.folder}/", "").replace(f"{ROOT}/", "")[:300]


def refusal(run: Run, pattern: re.Pattern) -> list[str]:
    """What is wrong with how a run ended: it must name the cause, in lines and not a traceback."""
    wrong = [] if pattern.search(run.said()) else [f"does not name the cause: {last_line(run)}"]
    if run.process.returncode not in (0, 1, 2):
        wrong.append(f"ended with code {run.process.returncode}")
    return wrong + (["a traceback"] if "Traceback" in run.said() else [])


def _kill(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    share = chosen.uniform(0, 0.95)  # the stage should not be over yet
    run = chain.start_in(stage, share)
    if not run.kill():
        return None
    wrong = chain.place.faults([run])
    return Try("SIGKILL, random moment", run.stage(), f"at {share:.3f} of stage {stage}", "", wrong)


def _rename(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    if not (renames := chain.known.stage(stage)["renames"]):
        return None
    rename = chosen.choice((1, -1)) * chosen.randint(1, renames)
    counter = chain.place.beside("tmp") / "renames"
    counter.write_bytes(b"")
    run = chain.start(**counting(counter, rename))
    run.wait()
    if not run.process.returncode:
        return None
    how = f"{'before' if rename > 0 else 'after'} rename {abs(rename)} from stage {stage} on"
    wrong = chain.place.faults([run])
    if run.process.returncode != -9:
        wrong.append(last_line(run))
    return Try("SIGKILL at a rename", run.stage(), how, "", wrong)


def _script(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    share = chosen.uniform(0, 0.95)
    run = chain.start_in(stage, share)
    if not run.kill(group=False):
        return None
    # What lives on may be writing. The next run begins with the stage when that has ended.
    again = chain.start()
    again.wait(lambda: again.stage() > 0)
    waited = "waited" if "waiting for it" in again.said() else ""
    again.kill()
    wrong = chain.place.faults([run, again])
    if again.process.returncode not in (0, -9):
        wrong.append(last_line(again))
    how = f"at {share:.3f} of stage {stage}"
    return Try("SIGKILL of the script alone", run.stage(), how, waited, wrong)


def _disk(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    if (needed := chain.known.stage(stage)["bytes"]) < 1 << 16:
        return None
    disk = os.statvfs(chain.place.folder)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    room = int(chosen.uniform(0.05, 0.6) * needed) // 4096 * 4096
    _mount("-o", f"remount,size={used + room}", str(chain.place.folder))
    run = chain.start("--stop_stage", str(stage))
    run.wait()
    wrong = refusal(run, FULL) + chain.place.faults([run])
    _mount("-o", f"remount,{ROOM}", str(chain.place.folder))
    if not run.process.returncode:
        return None
    how = f"{room >> 10} KiB left at the beginning of stage {stage}"
    return Try("disk full", run.stage(), how, last_line(run), wrong)


def _readonly(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    if not (name := WRITTEN.get(stage)):
        return None
    with read_only(chain.place.folder / name):
        run = chain.start()
        run.wait()
    wrong = refusal(run, READ_ONLY) + chain.place.faults([run])
    if not run.process.returncode:
        wrong.append("went on")
    said = last_line(run)
    return Try("read-only folder", stage, f"{name}, from stage {stage} on", said, wrong)


def _times(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    days = chosen.choice((-400, 400))
    for path in (p for folder in chain.place.written for p in folder.rglob("*")):
        if path.is_file() and chosen.random() < 0.5:
            then = time.time() + days * DAY * chosen.random()
            os.utime(path, (then, then))
    return Try("files' times jump", stage, f"half of the files by up to {days} days")


def _clock(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    share, jump = chosen.random(), chosen.choice(JUMPS)
    run = chain.start_in(stage, share, "--stop_stage", str(stage))
    if run.ended():
        return None
    chain.clock.write_text(f"{jump}\n")
    run.wait()
    wrong = chain.place.faults([run])
    if run.process.returncode:
        wrong.append(last_line(run))
    return Try("clock jumps", stage, f"{jump} at {share:.3f} of the stage", "", wrong)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


# What happens to a checkpoint: first that of the first epoch, then one that has one before it.
DAMAGES: dict[int, dict[str, Callable[[Path], object]]] = {
    6: {
        "cut to half": lambda path: os.truncate(path, path.stat().st_size // 2),
        "one bit changed": _flip,
    },
    7: {
        "empty": lambda path: path.write_bytes(b""),
        "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    },
}


def _damage(chain: Chain, stage: int, damage: str, second: bool) -> Try | None:
    """Kill training after an epoch (`second`: that has one before it) and damage its checkpoint."""
    folder = chain.place.exp / TRAININGS[stage]
    last, before = folder / "checkpoint.pth", folder / "checkpoint.before.pth"
    log = folder / "train.log"

    def epochs() -> int:
        return log.read_text(errors="replace").count("epoch results") if log.exists() else 0

    def saved() -> int:
        return last.stat().st_mtime_ns if last.exists() else 0

    had = epochs()
    run = chain.start()
    run.wait(lambda: epochs() > had and (before.exists() or not second))
    written = saved()
    run.wait(lambda: saved() != written)  # the checkpoint comes after the line
    if not run.kill() or stage in judge.finished(chain.place.exp):
        return None
    wrong = chain.place.faults([run])
    DAMAGES[stage][damage](last)
    expected = "training goes on from the checkpoint before" if before.exists() else "starts again"
    run = chain.start()
    run.wait(lambda: expected in run.said())
    run.kill()
    said = next((x for x in run.said().splitlines() if expected in x), "")
    wrong += chain.place.faults([run]) + ([] if said else [f"not said: {expected}"])
    said = said.replace(str(folder), TRAININGS[stage])
    return Try("damaged checkpoint", stage, damage, said, wrong)


def _checkpoint(chain: Chain, stage: int, chosen: random.Random) -> Try | None:
    if stage not in TRAININGS:
        return None
    for number, damage in enumerate(DAMAGES[stage]):
        if ((name := f"checkpoint, {damage}"), stage) not in chain.kept:
            chain.keep(name, stage, _damage(chain, stage, damage, number > 0))
    return None


FAULTS: dict[str, Callable[[Chain, int, random.Random], Try | None]] = {
    "readonly": _readonly,
    "disk": _disk,
    "checkpoint": _checkpoint,
    "kill": _kill,
    "rename": _rename,
    "times": _times,
    "script": _script,
    "clock": _clock,
}


@contextmanager
def in_memory(folder: Path) -> Iterator[None]:
    """A folder as a file system of its own in memory, lost at the end; on an error it stays."""
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_mount():  # as a killed harness leaves it
        _mount("-t", "tmpfs", "tmpfs", str(folder))
    _mount("-o", f"remount,{ROOM}", str(folder))
    yield
    _unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that nobody can write to."""
    folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_mount():
        _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def faketime() -> str:
    """The library that makes programs see another time."""
    if library := os.environ.get("FAKETIME_LIBRARY"):
        return library
    said = subprocess.run(["faketime", "0", "env"], capture_output=True, text=True).stdout
    return next(x[11:] for x in said.splitlines() if x.startswith("LD_PRELOAD="))
