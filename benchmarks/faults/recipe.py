"""The recipe with toys, started in a process group of its own, watched and ended at will."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import soundfile

from benchmarks.faults import judge
from espnet_dq.files import Folder, atomic, write_text
from tests import toys

ROOT = Path(__file__).parents[2]
STAGES = range(1, 14)
EPOCHS = 3  # of each training, so that there is something to resume from
POLL = 0.05  # seconds between looks at a run
PATIENCE = 3600  # seconds that a run may take


def make_toys(folder: Path) -> Path:
    """The corpus, the models and the configurations, once; returns `folder`."""
    if not folder.exists():
        with atomic(folder, Folder("toys", ())) as tmp:
            corpus = toys.save_corpus(tmp / "corpus")
            for wav in (corpus / "wav").iterdir():
                soundfile.write(wav, soundfile.read(wav)[0], 8000)  # stage 2 has to decode it
            for table in corpus.glob("*/wav.scp"):
                text = table.read_text(encoding="utf-8")
                table.write_text(text.replace(str(tmp), str(folder)), encoding="utf-8")
            toys.save_model(tmp / "teacher.pt", toys.make_model(1, state=32, layers=3))
            toys.save_model(tmp / "student.pt", toys.make_model(0))
            for name in ("train", "qat"):
                (tmp / f"{name}.yaml").write_text(toys.config(name, EPOCHS))
    return folder


@dataclass
class Place:
    """One experiment: a folder with its exp, dump and shared."""

    folder: Path
    toys: Path

    @property
    def exp(self) -> Path:
        """The experiment folder of the recipe."""
        return self.folder / "exp/kaldi_teacher_student_ct2_int8"

    @property
    def written(self) -> list[Path]:
        """The folders that the recipe writes to."""
        names = (self.folder / name for name in ("exp", "dump", "shared"))
        return [path for path in names if path.exists()]

    def start(self, *options: str, **environment: str) -> "Run":
        """Start the recipe, or go on with it."""
        self._end_run_of_a_killed_harness()
        said = self.beside("said")
        scratch = self.folder.parent / "tmp"  # not a long name: sockets are made there
        scratch.mkdir(exist_ok=True)
        log = said / f"{len(list(said.iterdir())):03d}.log"
        command = [
            str(toys.RECIPE / "run.sh"), "--corpus", "kaldi",
            "--data_root", str(self.toys / "corpus"), "--teacher", str(self.toys / "teacher.pt"),
            "--student", str(self.toys / "student.pt"),
            "--train_config", str(self.toys / "train.yaml"),
            "--qat_config", str(self.toys / "qat.yaml"), "--singles", "2", "--nj", "1",
            "--expdir", str(self.folder / "exp"), "--dumpdir", str(self.folder / "dump"),
            "--canary", "none", "--cachedir", str(self.folder / "shared"), *options,
        ]  # fmt: skip
        environment = {"OMP_NUM_THREADS": "1", "TMPDIR": str(scratch), **environment}
        with open(log, "wb") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self.beside("running").joinpath("pid").write_text(str(process.pid))
        return Run(self, process, log, judge.finished(self.exp))

    def beside(self, name: str) -> Path:
        """A folder for what must not lie where the fault is."""
        folder = self.folder.with_name(f"{self.folder.name}.{name}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _end_run_of_a_killed_harness(self) -> None:
        pid = self.beside("running") / "pid"
        if pid.exists():
            command = Path(f"/proc/{pid.read_text()}/cmdline")
            if command.exists() and str(self.folder).encode() in command.read_bytes():
                os.killpg(int(pid.read_text()), signal.SIGKILL)
            pid.unlink()

    def faults(self, runs: "list[Run]") -> list[str]:
        """What is wrong now: files, and stages that these runs did although they were done."""
        found = judge.half_written(self.written, self.exp)
        for run in runs:
            twice = judge.done_twice(run.done_before, run.said())
            found += [f"{run.log}: stage {n} was done again" for n in twice]
        return found


@dataclass
class Run:
    """One start of the recipe."""

    place: Place
    process: subprocess.Popen
    log: Path
    done_before: set[int]

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stage(self) -> int:
        """The stage it is in, or was in last; 0 before the first one."""
        return max(judge.started(self.said()), default=0)

    def cpu_seconds(self) -> float:
        """CPU seconds so far, of its processes and of those that they have waited for."""
        total = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            for process in (first, *first.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])
        return total

    def ended(self) -> bool:
        """Whether it is no longer running."""
        return self.process.poll() is not None

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until something holds, or the run has ended."""
        give_up = time.monotonic() + PATIENCE
        while not self.ended() and not until():
            if time.monotonic() > give_up:
                self.kill()
                raise TimeoutError(f"{self.log}: still running after {PATIENCE} s")
            time.sleep(POLL)

    def kill(self, group: bool = True) -> bool:
        """SIGKILL to all of it, or to the script alone; False if it had ended before."""
        if self.ended():
            return False
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            os.kill(self.process.pid, signal.SIGKILL)
        return self.process.wait() == -signal.SIGKILL


def children_seconds() -> float:
    """CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def size_of(folders: list[Path]) -> int:
    """Bytes on the disk."""
    files = (p for folder in folders for p in folder.rglob("*"))
    return sum(p.lstat().st_blocks * 512 for p in files)


class Reference:
    """An undisturbed run, which goes as far as it is asked about, and is kept."""

    def __init__(self, work: Path, place: Place) -> None:
        self.place, self.known = place, work / "reference.json"
        kept = self.known.exists()
        self.stages = json.loads(self.known.read_text(encoding="utf-8")) if kept else {}

    def stage(self, number: int) -> dict[str, float]:
        """CPU seconds, renames and bytes that a stage takes."""
        for stage in range(1, number + 1):
            if str(stage) not in self.stages:
                self._measure(stage)
        return self.stages[str(number)]

    def outcome(self, last: int) -> dict[str, object]:
        """What it has come to with a stage."""
        self.stage(last)
        return judge.outcome(self.place.exp, last)

    def _measure(self, stage: int) -> None:
        counter = self.place.beside("tmp") / "renames"
        counter.write_bytes(b"")
        before, spent = size_of(self.place.written), children_seconds()
        run = self.place.start("--stop_stage", str(stage), **counting(counter))
        run.wait()
        wrong = self.place.faults([run])
        if run.process.returncode or wrong:
            raise RuntimeError(f"the undisturbed run failed: {run.log} {wrong}")
        self.stages[str(stage)] = {
            "cpu_seconds": round(children_seconds() - spent, 2),
            "renames": counter.stat().st_size,
            "bytes": size_of(self.place.written) - before,
        }
        write_text(self.known, json.dumps(self.stages, indent=1))
        print(f"undisturbed: stage {stage}: {self.stages[str(stage)]}", flush=True)


def counting(counter: Path, at: int = 0) -> dict[str, str]:
    """Environment in which renames are counted, and one kills: see benchmarks/faults/renames."""
    path = [str(Path(__file__).parent / "renames"), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": ":".join(filter(None, path)),
        "FAULTS_RENAMES": str(counter),
        "FAULTS_AT": str(at),
    }
