"""The recipe through Slurm: jobs on two nodes, training in two tasks, one of which is lost."""

import json
import os
import subprocess
import time

import psutil
import pytest
import torch

from tests import toys
from tests.toys import RECIPE

CMD = """\
cmd_backend=slurm
cmd_split=false
cmd_threads=1
cmd_options=--time=8
cmd_train_options=--time=8
"""
EPOCHS = 8


@pytest.mark.slow
def test_a_lost_task_ends_the_job_and_the_recipe_goes_on(slurm, save_toy, tmp_path):
    """SIGKILL of one task of the training under srun; the same command then ends it."""
    data_root = toys.save_corpus(tmp_path / "my data")
    (tmp_path / "cmd.sh").write_text(CMD)
    for name, epochs in (("train", EPOCHS), ("qat", 1)):
        (tmp_path / f"{name}.yaml").write_text(toys.config(name, epochs))
    teacher, student = save_toy(seed=1, state=32, layers=3), save_toy(seed=0)
    command = [
        str(RECIPE / "run.sh"), "--expdir", str(tmp_path / "exp"), "--dumpdir",
        str(tmp_path / "dump"), "--corpus", "kaldi", "--data_root", str(data_root), "--teacher",
        str(teacher), "--student", str(student), "--train_config", str(tmp_path / "train.yaml"),
        "--qat_config", str(tmp_path / "qat.yaml"), "--singles", "2", "--cmd",
        str(tmp_path / "cmd.sh"), "--nj", "2", "--num_nodes", "2", "--systems",
        "student untouched", "--canary", "none", "--stop_stage", "10",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}

    with open(tmp_path / "said", "w") as said:
        running = subprocess.Popen(command, stderr=said, env=env)
    exp = tmp_path / f"exp/kaldi_{teacher.stem}_{student.stem}_ct2_int8"
    deadline = time.monotonic() + 400
    while not (exp / "kd/1epoch.pth").exists():
        assert time.monotonic() < deadline and running.poll() is None, told(tmp_path)
        time.sleep(0.1)
    tasks = {task: p for p in psutil.process_iter() if (task := task_of(p, exp / "kd"))}
    assert tasks.keys() == {"0", "1"}
    tasks["1"].kill()
    assert running.wait(timeout=90) == 1
    assert told(tmp_path).splitlines()[-1].endswith(f"training failed: see {exp}/kd/train.log")
    assert not psutil.pid_exists(tasks["0"].pid) and not (exp / "done/6").exists()
    log = (exp / "kd/train.log").read_text()
    assert ":0/2]" in log and "Killed" in log
    assert not (exp / f"kd/{EPOCHS}epoch.pth").exists()

    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("finished before") == 5 and done.stderr.count("done in") == 5
    trained = torch.load(exp / f"kd/{EPOCHS}epoch.pth", weights_only=True)
    assert all(value.isfinite().all() for name, value in trained.items() if "term" not in name)
    assert json.loads((exp / "verify.json").read_text())["mismatched"] == 0
    for system in ("student", "untouched"):
        report = json.loads((exp / "decode" / system / "decode.json").read_text())
        assert report["jobs"] == 2 and report["utterances"] == 4 and not report["failed"]
        assert (exp / "decode" / system / "score/score.json").is_file()
    written = sorted((exp / "logs").glob("*/*.log"))
    logs = {path.name for path in written}
    one = {"format.1.log", "teacher_train.1.log", "teacher_dev.1.log"}
    several = {"teacher_train_part", "teacher_dev_part", "decode_student", "decode_untouched"}
    assert logs == one | {f"{name}.{n}.log" for name in several for n in (1, 2)}
    assert {node for path in written for node in nodes(path)} == {"one", "two"}


def told(folder):
    """What the recipe has said, the end of it."""
    return (folder / "said").read_text()[-3000:]


def task_of(process, out):
    """Which of srun's tasks a process is, if it is ESPnet's trainer into `out`; not its loaders."""
    try:
        trains = f"--output_dir={out}" in process.cmdline() and process.name().startswith("python")
        return process.environ()["SLURM_PROCID"] if trains else None
    except psutil.Error:
        return None


def nodes(log):
    """Where the jobs of a log ran, as its head lines say."""
    lines = [line for line in log.read_text().splitlines() if line.startswith("# ")]
    return [line.split(" on ")[1].split(":")[0] for line in lines if " on " in line]
