"""Jobs on a real Slurm: an array that decodes, training in two tasks, and an interrupt."""

import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch

from benchmarks.faults.ddp import least_squares_apart
from espnet_dq.bin.decode import main as decode
from espnet_dq.data.kaldi import read_scp

JOBS = [sys.executable, "-m", "espnet_dq.bin.jobs", "--backend", "slurm"]
FAIL_ONCE = 'if [ "$1" = 2 ] && mkdir "$2"; then echo no luck; exit 7; fi; exec "${@:3}"'
ENDS = r"# exit code (\d+)"


def test_array_decodes_and_a_failed_job_runs_again_alone(slurm, toy_models, toy_data, tmp_path):
    model = ["--model", str(toy_models["faster-whisper"]), "--runtime", "faster-whisper"]
    given = [*model, "--data", str(toy_data), "--threads", "1"]
    out, logs = tmp_path / "out", tmp_path / "the logs"
    command = [*JOBS, "--nj", "3", "--log", str(logs / "decode.JOB.log"),
               "--", "bash", "-c", FAIL_ONCE, "_", "JOB", str(tmp_path / "failed"),
               sys.executable, "-m", "espnet_dq.bin.decode", *given, "--out", str(out),
               "--part", "JOB/3"]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert first.returncode == 1
    assert f"job 2: exit code 7: {logs}/decode.2.log\n" in first.stderr
    assert first.stderr.splitlines()[-1].endswith(
        "1 of 3 jobs failed: 2; started again, only these run"
    )
    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == 0, second.stderr
    written = {n: (logs / f"decode.{n}.log").read_text() for n in (1, 2, 3)}
    assert [re.findall(ENDS, log) for log in written.values()] == [["0"], ["7", "0"], ["0"]]
    assert set(re.findall(r"^# .* on (\w+): bash", "".join(written.values()), re.M)) == {
        "one",
        "two",
    }
    assert sorted(p.name for p in logs.iterdir()) == [f"decode.{n}.log" for n in (1, 2, 3)]

    assert decode([*given, "--out", str(out), "--join", "3"]) == 0
    assert decode([*given, "--out", str(tmp_path / "whole")]) == 0
    texts = read_scp(out / "text", empty=True)
    assert texts == read_scp(tmp_path / "whole/text", empty=True) and all(texts.values())


@pytest.mark.slow
def test_training_in_two_tasks_is_one(slurm, train, tmp_path):
    """ESPnet's own launcher under srun, through sbatch, against one process."""
    conf = {"matching": "dynamic", "preset": "full"}
    options = ("--batch_size", "3", "--max_epoch", "2", "--encoder_conf", "window=full",
               "--optim", "sgd", "--optim_conf", "lr=0.00001")  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    one = train(tmp_path / "one", *options, **conf)
    both = train(
        tmp_path / "two", *options, "--dist_launcher", "slurm", "--dist_backend", "gloo",
        "--multiprocessing_distributed", "false", "--dist_master_addr", "127.0.0.1",
        "--dist_master_port", str(port), **conf,
        launch=(*JOBS, "--nj", "1", "--log", str(tmp_path / "two/train.log"), "--options",
                "--nodes 2 --ntasks-per-node 1", "--", "srun"),
    )  # fmt: skip
    log = (both / "train.log").read_text()
    assert ":0/2]" in log
    losses = [
        [float(x) for x in re.findall(r"\[train\] .*?, loss=([0-9.e+-]+)", text)]
        for text in ((one / "log").read_text(), log)
    ]
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], rel=1e-4)
    a, b = (torch.load(folder / "2epoch.pth", weights_only=True) for folder in (one, both))
    assert a.keys() == b.keys()
    for weights in (a, b):
        least_squares_apart(weights)  # which make more of the last bits of sums; these are compared
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=1e-5, atol=1e-5, equal_nan=True), name


def test_interrupted_jobs_leave_the_queue(slurm, tmp_path):
    command = [
        *JOBS,
        "--nj",
        "3",
        "--log",
        str(tmp_path / "sleeper.JOB.log"),
        "--",
        "sleep",
        "60.JOB",
    ]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def queue() -> str:
        asked = ["squeue", "--noheader", "--states", "PENDING,RUNNING", "--format", "%j"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout

    for _ in range(200):
        if "sleeper" in queue():
            break
        time.sleep(0.1)
    running.send_signal(signal.SIGTERM)
    said = running.communicate(timeout=30)[1]
    assert running.returncode == 130 and "interrupted" in said
    assert "sleeper" not in queue()
