"""Jobs on this machine; Slurm has tests of its own, in tests/cluster."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from espnet_dq.errors import InputError, WorkError
from espnet_dq.jobs import Jobs, Part, run_jobs

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
    with pytest.raises(WorkError, match=r"1 of 3 jobs failed: 2; the same command starts only"):
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
    command = [sys.executable, "-m", "espnet_dq.bin.jobs", "--nj", "2", "--log",
               str(tmp_path / "x.JOB.log"), "--",
               "bash", "-c", 'echo $1 >> "$0"; sleep 5', str(tmp_path / "ran"), "JOB"]  # fmt: skip
    running = subprocess.Popen(command, stderr=subprocess.PIPE)
    ran = tmp_path / "ran"
    until = time.monotonic() + 30
    while not (ran.exists() and ran.read_text().count("\n") == 2) and time.monotonic() < until:
        time.sleep(0.1)
    running.kill()
    running.communicate()
    assert subprocess.run(command, stderr=subprocess.PIPE).returncode == 0
    assert sorted(ran.read_text().split()) == ["1", "2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ran", "x.1.log", "x.2.log"]


def test_a_folder_of_somebody_elses_is_kept(tmp_path):
    """Where scripts and exit codes would be."""
    work = jobs(tmp_path / "x.JOB.log", "echo", "JOB")
    work.state.mkdir()
    (work.state / "notes").write_text("mine")
    with pytest.raises(InputError, match="holds notes, which no job folder has"):
        run_jobs(work)
    assert (work.state / "notes").read_text() == "mine"


def test_mistakes(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no JOB in the log's name"):
        jobs(tmp_path / "JOB/x.log", "echo", "JOB")
    with pytest.raises(InputError, match="no JOB in the command: 3 jobs would do the same"):
        jobs(tmp_path / "x.JOB.log", "echo", "JOBS")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no sbatch here: is Slurm installed"):
        run_jobs(jobs(tmp_path / "x.JOB.log", "echo", "JOB"), "slurm")


def test_parts_are_all():
    parts = [Part.parse(f"{k}/4").of(list(range(10))) for k in (1, 2, 3, 4)]
    assert sorted(n for part in parts for n in part) == list(range(10)) and {
        len(p) for p in parts
    } == {2, 3}
    for wrong in ("0/4", "5/4", "x", "1", "1/2/3"):
        with pytest.raises(ValueError):
            Part.parse(wrong)
