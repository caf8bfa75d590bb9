"""Jobs on this machine; Slurm has tests of its own, in tests/cluster."""

import fcntl
import signal
import subprocess
import sys
import time

import psutil
import pytest

from espnet_dq import jobs as module
from espnet_dq.bin.jobs import main
from espnet_dq.errors import InputError, WorkError
from espnet_dq.jobs import Jobs, Part, end_left, run_jobs
from tests import toys

COUNT = 'echo "$@"; [ ! -e "$2" ] || { echo "no, not $1"; exit "$1"; }'


def jobs(log, *command, count=3):
    return Jobs(command, count, log)


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_failed_jobs_are_named_and_run_again_alone(tmp_path, capsys):
    odd = "two  words, $HOME, 'quoted' \"twice\"\n"
    (tmp_path / "bad.2").touch()
    log = tmp_path / "my logs/x.JOB.log"
    log.parent.mkdir()
    given = jobs(log, "bash", "-c", COUNT, "_", "JOB", f"{tmp_path}/bad.JOB", odd, "JOBS")
    with pytest.raises(WorkError, match=r"1 of 3 jobs failed: 2; started again, only these run"):
        run_jobs(given, at_once=2)
    assert f"job 2: exit code 2: {tmp_path}/my logs/x.2.log" in capsys.readouterr().err
    (tmp_path / "bad.2").unlink()
    run_jobs(given)
    said = [(log.parent / f"x.{n}.log").read_text() for n in (1, 2, 3)]
    assert [text.count("# exit code") for text in said] == [1, 2, 1]
    assert f"3 {tmp_path}/bad.3 {odd} JOBS\n" in said[2] and "no, not 2" in said[1]
    assert len(list(log.parent.iterdir())) == 3  # nothing is left but logs
    run_jobs(given)  # finished: asked for again, it is done again
    assert (log.parent / "x.1.log").read_text().count("# exit code 0") == 2


@pytest.mark.slow
def test_other_jobs_under_the_same_name_all_run(tmp_path):
    (tmp_path / "bad.2").touch()
    for word in ("first", "second"):
        with pytest.raises(WorkError):
            run_jobs(
                jobs(tmp_path / "x.JOB.log", "bash", "-c", COUNT, "_", "JOB",
                     f"{tmp_path}/bad.JOB", word)
            )  # fmt: skip
    assert (tmp_path / "x.1.log").read_text().count("# exit code 0") == 2


def test_an_end_takes_the_jobs_along(tmp_path):
    command = [sys.executable, "-m", "espnet_dq.bin.jobs", "--nj", "2", "--log",
               str(tmp_path / "x.JOB.log"), "--",
               "bash", "-c", "echo $$; sleep 60; : JOB"]  # fmt: skip
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / f"x.{n}.log" for n in (1, 2)]
    for _ in range(300):
        if all(log.exists() and log.read_text().count("\n") > 1 for log in logs):
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    assert "interrupted" in running.communicate(timeout=30)[1]
    assert running.returncode == 130
    pids = [int(log.read_text().splitlines()[1]) for log in logs]
    until = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(runs, pids))


@pytest.mark.slow
def test_jobs_that_outlive_their_command_are_waited_for(tmp_path):
    """By the same command, and by who waits for a lock that its caller held."""
    command = [sys.executable, "-m", "espnet_dq.bin.jobs", "--nj", "2", "--log",
               str(tmp_path / "x.JOB.log"), "--",
               "bash", "-c", 'echo $1 >> "$0"; sleep 5', str(tmp_path / "ran"), "JOB"]  # fmt: skip
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = subprocess.Popen(command, stderr=subprocess.PIPE, pass_fds=[lock.fileno()])
    ran = tmp_path / "ran"
    until = time.monotonic() + 30
    while not (ran.exists() and ran.read_text().count("\n") == 2) and time.monotonic() < until:
        time.sleep(0.1)
    running.kill()
    running.communicate()
    with open(tmp_path / "lock") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert subprocess.run(command, stderr=subprocess.PIPE).returncode == 0
    assert sorted(ran.read_text().split()) == ["1", "2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "lock", "ran", "x.1.log", "x.2.log"
    ]  # fmt: skip


def test_a_folder_of_somebody_elses_is_kept(tmp_path):
    """Where scripts and exit codes would be."""
    work = jobs(tmp_path / "x.JOB.log", "echo", "JOB")
    work.state.mkdir()
    (work.state / "notes").write_text("mine")
    with pytest.raises(InputError, match="holds notes, which no job folder has"):
        run_jobs(work)
    assert (work.state / "notes").read_text() == "mine"


def test_mistakes(tmp_path, monkeypatch, capsys):
    given = ["--nj", "1", "--log", str(tmp_path / "x.log"), "--options=-C 'x", "--", "true"]
    with pytest.raises(SystemExit, match="2"):
        main(given)
    assert "argument --options: -C 'x: No closing quotation" in capsys.readouterr().err
    with pytest.raises(InputError, match="no JOB in the log's name"):
        jobs(tmp_path / "JOB/x.log", "echo", "JOB")
    with pytest.raises(InputError, match="no JOB in the command: 3 jobs would do the same"):
        jobs(tmp_path / "x.JOB.log", "echo", "JOBS")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no sbatch here: is Slurm installed"):
        run_jobs(jobs(tmp_path / "x.JOB.log", "echo", "JOB"), "slurm")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins: a job is gone from the queue at the third look after it was cancelled."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in (
        ("scancel", 'echo "$1" > cancelled'),
        ("squeue", "[ -e cancelled ] && echo . >> looks; [ $(wc -l < looks) -ge 3 ] || echo 7"),
    ):
        toys.save_program(folder / name, f"cd {tmp_path}; {does}")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


def test_what_a_killed_run_left_on_slurm_is_ended(slurm, tmp_path, capsys, monkeypatch):
    note = tmp_path / "kd/.train.log/slurm"
    note.parent.mkdir(parents=True)
    note.write_text("7")
    with pytest.raises(WorkError, match=r"slurm: job 7 .* without locks nobody knows: .*scancel 7"):
        end_left(note, False)
    assert note.exists() and not (tmp_path / "cancelled").exists()
    end_left(note, True)
    assert (tmp_path / "cancelled").read_text() == "7\n" and not note.exists()
    assert (tmp_path / "looks").read_text().count(".") == 3
    assert "kd/.train.log: ending job 7 of Slurm, which a killed run" in capsys.readouterr().err
    note.write_text("7")  # it has ended
    end_left(note, False)
    assert not note.exists()
    (tmp_path / "looks").write_text("")
    note.write_text("7")
    monkeypatch.setattr(module, "ENDS", 0)
    with pytest.raises(WorkError, match=r"slurm: job 7 of Slurm has not ended in 0 s"):
        end_left(note, True)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"slurm: job 7 may still run, but no squeue here.* remove"
    ):
        end_left(note, True)
    assert note.read_text() == "7"
    note.write_text("mine")
    with pytest.raises(InputError, match=r"slurm: is no number of a job"):
        end_left(note, True)
    assert note.read_text() == "mine"


def test_an_array_of_no_jobs_is_not_submitted(tmp_path, monkeypatch):
    """All have ended well after the command that waited for them was killed."""
    work = jobs(tmp_path / "x.JOB.log", "echo", "JOB")
    work.state.mkdir()
    (work.state / "jobs.sh").write_text(work.script())
    for n in (1, 2, 3):
        (work.state / f"{n}.code").write_text("0\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    run_jobs(work, "slurm")
    assert not [*tmp_path.iterdir()]


def test_parts_are_all():
    parts = [Part.parse(f"{k}/4").of(list(range(10))) for k in (1, 2, 3, 4)]
    assert sorted(n for part in parts for n in part) == list(range(10)) and {
        len(p) for p in parts
    } == {2, 3}
    for wrong in ("0/4", "5/4", "x", "1", "1/2/3"):
        with pytest.raises(ValueError):
            Part.parse(wrong)
