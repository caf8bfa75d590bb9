"""Chains of faults: the recipe from its start to its end, interrupted at each stage."""

import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults import judge
from tests.faults.recipe import STAGES, Place, Run, counting

FULL = re.compile(r"No space left on device|are free")
READ_ONLY = re.compile(r"Read-only file system")
JUMPS = ("+400d", "-400d", "+3h", "-3h", "+20y", "-2d")
DAY = 86400


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

    def __init__(self, place: Place, known: dict, number: int, timed: bool = False) -> None:
        self.place, self.known, self.timed = place, known, timed
        self.random = random.Random(f"{place.folder.name} {number}")
        self.file = place.beside("tries") / "tries.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.kept = [json.loads(line) for line in lines]
        self.step = 0

    def stage(self, number: int) -> dict:
        """What the undisturbed run needed for a stage."""
        return self.known["stages"][str(number)]

    def attempt(self, make: Callable[..., Try | None], *details: object) -> None:
        """Make the next try, unless that was done before the harness was killed."""
        self.step += 1
        if self.step <= len(self.kept):
            return
        made = make(self, *details)
        self.kept.append(asdict(made) if made else None)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(self.kept[-1]) + "\n")
        if made:
            print(
                f"  {made.fault}, stage {made.stage}, {made.how}: {made.wrong or 'ok'}", flush=True
            )

    def go_to(self, stage: int, **environment: str) -> bool:
        """Finish the stages before one; False if that one is finished already, or left out.

        Stage 11, which measures speed, takes long and has its faults in `timed` chains only.
        """
        if not self.timed and stage > 11:
            self.go_to(11, **environment)
            (self.place.exp / "done/11").write_text("0\n")
        if set(range(1, stage)) - judge.finished(self.place.exp):
            self.undisturbed("--stop_stage", str(stage - 1), **environment)
        left_out = stage == 11 and not self.timed
        return not left_out and stage not in judge.finished(self.place.exp)

    def undisturbed(self, *options: str, **environment: str) -> Run:
        """A run without a fault, which must succeed."""
        run = self.place.start(*options, **environment)
        run.wait()
        if run.process.returncode:
            raise RuntimeError(f"going on failed: {run.log}: {last_line(run)}")
        if wrong := self.place.faults([run]):
            raise RuntimeError("; ".join(wrong))
        return run

    def end(self) -> list[Try]:
        """Finish the recipe and compare; what is wrong in the end was wrong with every try."""
        tries = [Try(**made) for made in self.kept if made]
        wrong = []
        try:
            self.go_to(max(STAGES))
            self.undisturbed()
            known, found = self.known["outcome"], judge.outcome(self.place.exp)
            wrong += [f"the end differs in {key}" for key in judge.differing(known, found)]
            wrong += [f"{path}: left behind" for path in judge.leftovers(self.place.folder / "exp")]
        except RuntimeError as e:
            wrong.append(str(e))
        for each in tries:
            each.wrong += wrong
        print(f"  end: {wrong or 'as the undisturbed run'}", flush=True)
        return tries


def last_line(run: Run) -> str:
    """What a run said last, without its folders."""
    lines = [line for line in run.said().splitlines() if line.strip()]
    return re.sub(re.escape(str(run.place.folder)), "", lines[-1])[:300] if lines else ""


def kill(place: Place, known: dict, number: int) -> list[Try]:
    """SIGKILL of the process group: at a random moment of each stage, and at a random rename."""
    chain = Chain(place, known, number, timed=True)
    for stage in STAGES:
        share, renames = chain.random.random(), chain.stage(stage)["renames"]
        rename = chain.random.choice((1, -1)) * chain.random.randint(1, max(renames, 1))
        chain.attempt(_kill_at, stage, share)
        if renames:
            chain.attempt(_kill_at_rename, stage, rename)
    return chain.end()


def script(place: Place, known: dict, number: int) -> list[Try]:
    """SIGKILL of the script alone, at a random moment of each stage: what it started works on."""
    chain = Chain(place, known, number)
    for stage in STAGES:
        share = chain.random.random()
        chain.attempt(_kill_at, stage, share, group=False)
    return chain.end()


def _kill_at(chain: Chain, stage: int, share: float, group: bool = True) -> Try | None:
    if not chain.go_to(stage):
        return None
    run = chain.place.start()
    run.wait(lambda: run.stage() >= stage)
    moment = time.monotonic() + share * chain.stage(stage)["seconds"]
    run.wait(lambda: time.monotonic() >= moment)
    if not run.kill(group):
        return None
    fault = "SIGKILL, random moment" if group else "SIGKILL of the script alone"
    # What lives on may be writing; the next run waits for it, and is judged.
    wrong = chain.place.faults([run]) if group else []
    return Try(fault, run.stage(), f"at {share:.3f} of stage {stage}", "", wrong)


def _kill_at_rename(chain: Chain, stage: int, rename: int) -> Try | None:
    if not chain.go_to(stage):
        return None
    counter = chain.place.beside("tmp") / "renames"
    counter.write_bytes(b"")
    run = chain.place.start(**counting(counter, rename))
    run.wait()
    if run.process.returncode != -9:
        if run.process.returncode:
            raise RuntimeError(f"{run.log}: {last_line(run)}")
        return None
    how = f"{'before' if rename > 0 else 'after'} rename {abs(rename)} from stage {stage}"
    return Try("SIGKILL at a rename", run.stage(), how, "", chain.place.faults([run]))


def disk(place: Place, known: dict, number: int) -> list[Try]:
    """The disk gets full within each stage; then there is room again."""
    chain = Chain(place, known, number)
    with mounted([place.folder]):
        for stage in STAGES:
            share = chain.random.uniform(0.05, 0.9)
            if chain.stage(stage)["bytes"] > 1 << 16:
                chain.attempt(_fill, stage, share)
        return chain.end()


def _fill(chain: Chain, stage: int, share: float) -> Try | None:
    if not chain.go_to(stage):
        return None
    disk = os.statvfs(chain.place.folder)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    room = int(share * chain.stage(stage)["bytes"]) // 4096 * 4096
    remount(chain.place.folder, f"size={used + room}")
    run = chain.place.start()
    run.wait()
    wrong = refusal(run, FULL) + chain.place.faults([run])
    remount(chain.place.folder, "size=8g")
    if not run.process.returncode:
        return None
    how = f"{room >> 10} KiB left at the beginning of stage {stage}"
    return Try("disk full", run.stage(), how, last_line(run), wrong)


def readonly(place: Place, known: dict, number: int) -> list[Try]:
    """Folders that cannot be written; the corpus is read-only all the time."""
    chain = Chain(place, known, number)
    folders = [place.folder / name for name in ("exp", "dump", "shared")]
    with mounted(folders), mounted([place.toys], "--bind"):
        order = [(1, "exp"), (1, "dump"), (2, "dump"), (2, "shared"), (3, "exp"), (4, "shared"),
                 (6, "exp"), (9, "shared"), (9, "exp"), (13, "exp")]  # fmt: skip
        for stage, name in order:
            chain.attempt(_refuse, stage, name)
        return chain.end()


def _refuse(chain: Chain, stage: int, name: str) -> Try | None:
    if not chain.go_to(stage):
        return None
    folder = chain.place.folder / name
    remount(folder, "ro")
    run = chain.place.start()
    run.wait()
    wrong = refusal(run, READ_ONLY) + chain.place.faults([run])
    remount(folder, "rw")
    if not run.process.returncode:
        wrong.append("went on")
    return Try("read-only folder", stage, f"{name}, from stage {stage} on", last_line(run), wrong)


def refusal(run: Run, pattern: re.Pattern) -> list[str]:
    """What is wrong with how a run ended: it must name the cause, in lines and not a traceback."""
    wrong = [] if pattern.search(run.said()) else [f"does not name the cause: {last_line(run)}"]
    return wrong + (["a traceback"] if "Traceback" in run.said() else [])


def clock(place: Place, known: dict, number: int) -> list[Try]:
    """The programs' clock (libfaketime) jumps within each stage, the files' times before it."""
    library = shutil.which("faketime") and _faketime()
    library = os.environ.get("FAKETIME_LIBRARY", library)
    if not library:
        raise SystemExit("no libfaketime: install it, or name its file in FAKETIME_LIBRARY")
    chain = Chain(place, known, number)
    now = place.beside("tmp") / "clock"
    now.write_text("+0\n")
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # a clock that jumps leaves this one alone
        "NO_FAKE_STAT": "1",  # files' times are those of the kernel, and are changed here
    }
    for stage in STAGES:
        share, jump = chain.random.random(), chain.random.choice(JUMPS)
        days = chain.random.choice((-400, 400))
        chain.attempt(_touch, stage, days, environment)
        chain.attempt(_jump, stage, share, jump, now, environment)
    return chain.end()


def _touch(chain: Chain, stage: int, days: int, environment: dict[str, str]) -> Try | None:
    if not chain.go_to(stage, **environment):
        return None
    files = [p for folder in chain.place.written for p in folder.rglob("*") if p.is_file()]
    for path in files:
        if chain.random.random() < 0.5:
            then = time.time() + days * DAY * chain.random.random()
            os.utime(path, (then, then))
    return Try("files' times jump", stage, f"half of the files by up to {days} days")


def _jump(
    chain: Chain, stage: int, share: float, jump: str, now: Path, environment: dict[str, str]
) -> Try | None:
    if not chain.go_to(stage, **environment):
        return None
    run = chain.place.start("--stop_stage", str(stage), **environment)
    run.wait(lambda: run.stage() >= stage)
    moment = time.monotonic() + share * chain.stage(stage)["seconds"]
    run.wait(lambda: time.monotonic() >= moment)
    if run.ended():
        return None
    now.write_text(f"{jump}\n")
    run.wait()
    wrong = chain.place.faults([run])
    if run.process.returncode:
        wrong.append(last_line(run))
    return Try("clock jumps", stage, f"{jump} at {share:.3f} of the stage", "", wrong)


def _faketime() -> str | None:
    found = subprocess.run(["faketime", "0", "env"], capture_output=True, text=True).stdout
    return next(
        (x.split("=", 1)[1] for x in found.splitlines() if x.startswith("LD_PRELOAD=")), None
    )


def checkpoint(place: Place, known: dict, number: int) -> list[Try]:
    """Training is killed after an epoch, and the checkpoint damaged."""
    chain = Chain(place, known, number)
    for stage, training in ((6, "kd"), (7, "qat")):
        for damage in DAMAGES:
            chain.attempt(_damage, stage, training, damage)
    return chain.end()


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut to half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one bit changed": _flip,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


def _damage(chain: Chain, stage: int, training: str, damage: str) -> Try | None:
    if not chain.go_to(stage):
        return None
    folder = chain.place.exp / training
    last, other = folder / "checkpoint.pth", folder / "checkpoint.before.pth"
    log = folder / "train.log"

    def saved() -> tuple[int, int]:
        epochs = log.read_text(errors="replace").count("epoch results") if log.exists() else 0
        return epochs, last.stat().st_mtime_ns if last.exists() else 0

    before = saved()
    run = chain.place.start()
    # The first time there is none before it.
    first = damage == next(iter(DAMAGES))
    run.wait(lambda: saved()[0] > before[0] and (first or other.exists()))
    written = saved()[1]
    run.wait(lambda: saved()[1] != written)  # the checkpoint comes after the line
    if not run.kill():
        return None
    wrong = chain.place.faults([run])
    if stage in judge.finished(chain.place.exp):
        return None
    DAMAGES[damage](last)
    expected = "training goes on from the checkpoint before" if other.exists() else "starts again"
    run = chain.place.start()
    run.wait(lambda: expected in run.said())
    run.kill()
    said = next((x for x in run.said().splitlines() if expected in x), "")
    if not said:
        wrong.append(f"not said: {expected}")
    wrong += chain.place.faults([run])
    said = said.replace(str(folder), training)
    return Try("damaged checkpoint", stage, damage, said, wrong)


@contextmanager
def mounted(folders: list[Path], *how: str) -> Iterator[None]:
    """Folders as file systems of their own in memory, or bound to themselves with options."""
    done = []
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            if not folder.is_mount():  # as a killed harness leaves it
                _mount(
                    *(how or ("-t", "tmpfs", "tmpfs")), *([str(folder)] if how else []), str(folder)
                )
            done.append(folder)
            remount(folder, "bind,ro" if how else "size=8g,rw")
        yield
    finally:
        for folder in reversed(done):
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change an option of such a file system."""
    _mount("-o", f"remount,{option}", str(folder))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


CHAINS: dict[str, Callable[[Place, dict, int], list[Try]]] = {
    "kill": kill,
    "script": script,
    "disk": disk,
    "readonly": readonly,
    "clock": clock,
    "checkpoint": checkpoint,
}
