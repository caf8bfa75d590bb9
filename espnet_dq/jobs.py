"""One command as many jobs, on this machine or on a Slurm cluster.

Each job has its own log and leaves its exit code in a file, which is all that its success is judged
by. Those files, and the script that runs the jobs, stand in a hidden folder beside the logs until
every job is done: the same jobs, started again, are only those that are not. In the spirit of
Kaldi's `run.pl` and `slurm.pl`.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from espnet_dq.errors import InputError, WorkError, one_line, say
from espnet_dq.files import Folder, check_replaceable, remove, write_text

BACKENDS = ("local", "slurm")
POLL = 0.2  # seconds between looks at the jobs' exit codes
ASK = 10.0  # seconds between questions to Slurm, which other users ask, too
STATE = Folder("job", ("jobs.sh", "slurm", "*.code", "*.tmp", "*.lock"))
ENDS = 300.0  # seconds that Slurm may take to end a job
SETTLE = 10.0  # seconds that a file from another machine may take to be seen here

_SCRIPT = """\
#!/usr/bin/env bash
# Job number $1, or the array task that Slurm says. Written by espnet_dq.jobs.
job=${{1:-$SLURM_ARRAY_TASK_ID}}
cd {folder} || exit 1
# A job that has outlived the command that started it is waited for; what it finished is done.
if type -P flock > /dev/null; then
    exec 9> {state}/"$job.lock"
    flock 9
fi
[ "$(cat {state}/"$job.code" 2> /dev/null)" != 0 ] || exit 0
case $job in
{cases}
esac
printf '# %s on %s:' "$(date '+%F %T')" "${{SLURMD_NODENAME:-$(hostname)}}"
printf ' %q' "${{command[@]}}"
echo
"${{command[@]}}"
code=$?
echo "# exit code $code after $SECONDS s"
echo "$code" > {state}/"$job.tmp" && mv {state}/"$job.tmp" {state}/"$job.code"
exit "$code"
"""


def threads() -> int:
    """CPU threads of one process: as `OMP_NUM_THREADS` says, or one for each core that it has."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # "4,2" is nested
    if said.isdecimal() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Part:
    """One of `count` parts of some work, `number` from 1 on."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """From `K/N`; raises `ValueError`, as argparse wants it."""
        number, count = (int(n) for n in text.split("/"))
        if not 1 <= number <= count:
            raise ValueError(text)
        return cls(number, count)

    def of[Item](self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th item: neighbours, which are alike, go to different parts."""
        return items[self.number - 1 :: self.count]


@dataclass(frozen=True)
class Jobs:
    """`command` as `count` jobs: the word `JOB` in it, and in the log's name, is 1 to `count`.

    Raises `InputError` when several jobs would do the same or write to one log.
    """

    command: Sequence[str]
    count: int
    log: Path

    def __post_init__(self):
        if self.count > 1 and _fill(self.log.name, 1) == self.log.name:
            raise InputError(f"{self.log}: no JOB in the log's name: the jobs would share it")
        if self.count > 1 and all(_fill(part, 1) == part for part in self.command):
            raise InputError(f"no JOB in the command: {self.count} jobs would do the same")

    @property
    def name(self) -> str:
        """What the jobs are called: the log's name without job and ending."""
        return re.sub(r"\W?\bJOB\b", "", self.log.stem)

    @property
    def state(self) -> Path:
        """The folder of the script and of the exit codes, there while a job is left."""
        return self.log.parent.resolve() / f".{self.log.name}"

    def log_of(self, job: int) -> Path:
        """The log of one job."""
        return self.log.parent.resolve() / _fill(self.log.name, job)

    def script(self) -> str:
        """A bash script that runs any one of the jobs."""
        cases = [
            f"{n}) command=({shlex.join(_fill(part, n) for part in self.command)}) ;;"
            for n in range(1, self.count + 1)
        ]
        folder, state = shlex.quote(os.getcwd()), shlex.quote(str(self.state))
        return _SCRIPT.format(folder=folder, state=state, cases="\n".join(cases))

    def code(self, job: int) -> int | None:
        """A job's exit code; None if it has not ended, or was killed with its script."""
        try:
            return int((self.state / f"{job}.code").read_text())
        except FileNotFoundError:
            return None

    def ended(self, jobs: Sequence[int]) -> int:
        """How many of these jobs have ended."""
        return sum(self.code(job) is not None for job in jobs)


def _fill(text: str, job: int | str) -> str:
    return re.sub(r"\bJOB\b", lambda _: str(job), text)


def run_jobs(
    jobs: Jobs,
    backend: str = "local",
    at_once: int = 0,
    options: Sequence[str] = (),
    show: bool = True,
) -> None:
    """Run those of the jobs that an earlier, unfinished run of the same has not done.

    Args:
        jobs: What to run, in the working folder and the environment of the caller.
        backend: `local` or `slurm`, where it is an array job.
        at_once: How many jobs run at a time; 0: the number of cores, or as many as Slurm grants.
        options: For sbatch.
        show: Whether a bar on stderr counts the jobs that have ended.

    Raises:
        WorkError: Jobs failed; each is named on stderr with its log.
    """
    check_replaceable(jobs.state, STATE)
    script = jobs.state / "jobs.sh"
    text = jobs.script()
    if not script.is_file() or script.read_text(encoding="utf-8") != text:
        _cancel(jobs)
        remove(jobs.state)
        write_text(script, text)
    _cancel(jobs)
    left = [n for n in range(1, jobs.count + 1) if jobs.code(n) != 0]
    for n in left:
        remove(jobs.state / f"{n}.code")
    with tqdm(
        total=jobs.count, initial=jobs.count - len(left), desc=one_line(jobs.name), unit="job",
        disable=not show,
    ) as bar:  # fmt: skip
        if backend == "slurm":
            _slurm(jobs, script, left, at_once, options, bar)
        else:
            _local(jobs, script, left, at_once or os.cpu_count() or 1, bar)
    failed = {n: code for n in left if (code := jobs.code(n)) != 0}
    for n, code in failed.items():
        reason = "ended without an exit code" if code is None else f"exit code {code}"
        say(f"job {n}: {reason}: {jobs.log_of(n)}", sys.stderr)
    if failed:
        raise WorkError(
            f"{len(failed)} of {jobs.count} jobs failed: {', '.join(map(str, failed))}; "
            "started again, only these run"
        )
    remove(jobs.state)


def _local(jobs: Jobs, script: Path, left: list[int], at_once: int, bar: tqdm) -> None:
    waiting, running = list(left), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                number = waiting.pop(0)
                with open(jobs.log_of(number), "ab") as log:
                    running[number] = subprocess.Popen(
                        ["bash", script, str(number)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # so that all that it starts can be ended
                        close_fds=False,  # it holds the caller's locks, too: see `run_here`
                    )
            time.sleep(POLL)
            running = {n: job for n, job in running.items() if job.poll() is None}
            _show(bar, len(left) - len(waiting) - len(running))
    finally:
        for job in running.values():
            os.killpg(job.pid, signal.SIGTERM)


def _slurm(
    jobs: Jobs,
    script: Path,
    left: list[int],
    at_once: int,
    options: Sequence[str],
    bar: tqdm,
) -> None:
    if not left:  # of no tasks it takes no array
        return
    folder, name = (str(p).replace("%", "%%") for p in (jobs.log.parent.resolve(), jobs.log.name))
    array = ",".join(map(str, left)) + (f"%{at_once}" if at_once else "")
    submitted = _ask(
        ["sbatch", *options, "--parsable", "--array", array, "--job-name", jobs.name,
         "--output", f"{folder}/{_fill(name, '%a')}", "--open-mode", "append", str(script)]
    )  # fmt: skip
    if submitted.returncode:
        raise WorkError(f"sbatch: {' '.join(submitted.stderr.split())}")
    number = submitted.stdout.strip().split(";")[0]
    try:
        write_text(_submitted(jobs), number)
        asked = time.monotonic()
        while (ended := jobs.ended(left)) < len(left):
            _show(bar, ended)
            time.sleep(POLL)
            if time.monotonic() - asked > ASK:
                if _gone(number):
                    break
                asked = time.monotonic()
        until = time.monotonic() + SETTLE
        while jobs.ended(left) < len(left) and time.monotonic() < until:
            time.sleep(POLL)
        _show(bar, jobs.ended(left))
    except BaseException:
        _cancel(jobs)
        raise
    remove(_submitted(jobs))


def _show(bar: tqdm, ended: int) -> None:
    if not bar.disable and (new := ended - (bar.n - bar.initial)):
        bar.update(new)


def end_left(note: Path, alone: bool) -> None:
    """Take from Slurm what a killed run has left there, and wait until it has ended.

    Args:
        note: the number of its job, in its `Jobs.state`.
        alone: whether nobody else can be waiting for that job.

    Raises:
        InputError: it is no number, or there is no Slurm here.
        WorkError: it may be somebody else's, or has not ended after `ENDS` seconds.
    """
    if not (number := note.read_text().strip()).isdecimal():
        raise InputError(f"{note}: is no number of a job: remove it once its job has ended")
    try:
        if not _gone(number):
            if not alone:
                raise WorkError(
                    f"{note}: job {number} of Slurm is another run's, or left by a killed one, and "
                    f"without locks nobody knows: wait for it, or scancel {number}"
                )
            _end(number, note)
    except InputError as e:
        raise InputError(
            f"{note}: job {number} may still run, but {e} Once it has ended, remove that file"
        ) from e
    remove(note)


def _end(number: str, note: Path) -> None:
    say(f"{note.parent}: ending job {number} of Slurm, which a killed run has left", sys.stderr)
    _ask(["scancel", number])
    until = time.monotonic() + ENDS
    while not _gone(number):
        if time.monotonic() > until:
            raise WorkError(f"{note}: job {number} of Slurm has not ended in {ENDS:g} s")
        time.sleep(1)


def _submitted(jobs: Jobs) -> Path:
    return jobs.state / "slurm"


def _gone(number: str) -> bool:
    """Whether Slurm has no job of this number, waiting or running; it may be too busy to say."""
    found = _ask(["squeue", "--noheader", "--jobs", number, "--format", "%i"])
    if found.returncode:
        return "Invalid job id" in found.stderr
    return not found.stdout.strip()


def _cancel(jobs: Jobs) -> None:
    """Take from Slurm what this run, or an earlier one that was killed, has left there."""
    if _submitted(jobs).is_file():
        _ask(["scancel", _submitted(jobs).read_text()])
        remove(_submitted(jobs))


def _ask(command: list[str]) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as e:
        raise InputError(f"no {command[0]} here: is Slurm installed on this machine?") from e
