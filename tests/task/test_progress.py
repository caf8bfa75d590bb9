"""What the screen shows of a training, by a log as ESPnet writes it; and how one ends."""

import io
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from espnet_dq.task import progress

HEAD = "[vm] 2026-11-28 15:48:54,349 "
SIZES = (
    HEAD + "(abs_task:1921) INFO: [train] mini-batch sizes summary: N-batch=7, mean=2.0, min=2\n"
)
OTHER = SIZES.replace("train", "valid").replace("N-batch=7", "N-batch=3")
START = HEAD + "(trainer:334) INFO: {}/3epoch started\n"
STEPS = HEAD + "(trainer:762) INFO: {}epoch:train:{}-{}batch: iter_time=0.025, loss={}, acc=0.021\n"
END = HEAD + "(trainer:392) INFO: {}epoch results: [train] loss=57.034, [valid] loss=3.200\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def screen(monkeypatch):
    """Function (folder, parts of the log, a terminal?) -> what is on the screen in the end."""
    monkeypatch.setattr(progress, "POLL", 0.02)

    def show(folder, parts, terminal=False):
        monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
        with progress.shown(folder, every=0):
            for part in parts:
                with open(folder / "train.log", "a") as log:
                    log.write(part)
                time.sleep(0.1)
        return sys.stderr.getvalue()

    return show


def test_lines_where_there_is_no_terminal(screen, tmp_path):
    (tmp_path / "config.yaml").write_text("num_iters_per_epoch: null\naccum_grad: 1\n")
    line = STEPS.format(1, 4, 6, "2.345")
    said = screen(tmp_path, [SIZES + OTHER, START.format(1), line[:60], line[60:], END.format(1)])
    lines = said.splitlines()
    assert lines[0] == f"{tmp_path.name}: log: {tmp_path}/train.log"
    assert lines[1] == f"{tmp_path.name}: step 0 of 21 in 00:00, ? left"
    assert any(
        re.fullmatch(r".*: step 6 of 21 in 00:00, \d\d:\d\d left, loss=2\.345", x) for x in lines
    )
    last = r".*: step 7 of 21 in 00:\d\d, \d\d:\d\d left, loss=2\.345, dev=3\.200"
    assert re.fullmatch(last, lines[-1])
    assert "\r" not in said


def test_a_resumed_training_begins_where_it_is(screen, tmp_path):
    """What the log holds already is an older run's; steps are those of several batches."""
    (tmp_path / "config.yaml").write_text("num_iters_per_epoch: 8\naccum_grad: 2\n")
    (tmp_path / "train.log").write_text(SIZES + START.format(1) + STEPS.format(1, 1, 4, "9.900"))
    said = screen(tmp_path, [SIZES, START.format(2), STEPS.format(2, 1, 4, "1.250")])
    lines = said.splitlines()
    assert "step 4 of 12" in lines[1] and "step 6 of 12" in lines[-1] and "loss=1.25" in lines[-1]
    assert "9.9" not in said


def test_a_bar_on_a_terminal(screen, tmp_path):
    (tmp_path / "config.yaml").write_text("num_iters_per_epoch: 8\n")
    before = END.format(0).replace("[train] loss=57.034, ", "")  # dev, before training
    log = [before, START.format(1), STEPS.format(1, 1, 4, "1.250")]
    said = screen(tmp_path, log, terminal=True)
    last = said.rstrip().split("\r")[-1]
    assert "4/24 [" in last and "dev=3.200, loss=1.250" in last and said.count("\n") == 2


def test_no_log_yet(screen, tmp_path):
    """As while a job waits in Slurm's queue, and of a training that fails before its first step."""
    assert screen(tmp_path, []).count("\n") == 1
    assert screen(tmp_path, ["Traceback\n"]).count("\n") == 1


def start(folder, script):
    (folder / "run.sh").write_text(script)
    program = (
        "import pathlib, sys; from espnet_dq.errors import run; from espnet_dq.task import train; "
        "run(lambda: train.run_here(pathlib.Path(sys.argv[1])))"
    )
    return subprocess.Popen(
        [sys.executable, "-Pc", program, str(folder / "run.sh")],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_the_code_is_the_trainings_and_the_log_is_whole(tmp_path, ending, code):
    (tmp_path / "train.log").write_text("before\n")
    assert start(tmp_path, f"echo one; echo two >&2; {ending}").wait(60) == code
    assert (tmp_path / "train.log").read_text() == "before\none\ntwo\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "to_all", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143), (signal.SIGKILL, False, -9)],
)
def test_an_interrupted_training(tmp_path, how, to_all, code):
    """A terminal interrupts all; what is ended ends its training, unless it can do nothing."""
    child = "import time; print('at work', flush=True); time.sleep(60)"
    command = start(tmp_path, f'echo $$ > {tmp_path}/pid; exec {sys.executable} -c "{child}"')
    deadline = time.monotonic() + 60
    while not (tmp_path / "train.log").exists() or not (tmp_path / "train.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (os.killpg if to_all else os.kill)(command.pid, how)
    assert command.wait(30) == code
    pid = int((tmp_path / "pid").read_text())
    left = psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    assert left == (how == signal.SIGKILL)
    if left:
        os.kill(pid, signal.SIGKILL)
