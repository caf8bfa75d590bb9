"""The recipe from a Kaldi corpus to a report, with toy models: every stage, and a second run."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from espnet_dq.data.audio import save_wav
from espnet_dq.data.kaldi import KaldiDir

RECIPE = Path(__file__).parents[2] / "egs2/dq_whisper/asr1"
WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    """train, dev and test of noise, in two languages."""
    root, random, number = tmp_path_factory.mktemp("my data"), np.random.default_rng(0), 0
    for split, count in (("train", 8), ("dev", 4), ("test", 4)):
        data = KaldiDir()
        for _ in range(count):
            utt, number = f"spk{number % 2}-{number:03d}", number + 1
            wav = root / "wav" / f"{utt}.wav"
            wav.parent.mkdir(exist_ok=True)
            save_wav(wav, random.normal(0, 0.05, 16000).astype(np.float32))
            data.wav[utt] = str(wav)
            data.text[utt] = f"{WORDS[number % 8]} {WORDS[number // 8]}"
            data.utt2spk[utt] = utt.split("-")[0]
            data.utt2lang[utt] = ("en", "ru")[number % 2]
        data.save(root / split)
    return root


def run(folder: Path, *options: str, code: int = 0) -> str:
    done = subprocess.run(
        [str(RECIPE / "run.sh"), "--expdir", str(folder / "exp"), "--dumpdir",
         str(folder / "dump"), *options],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
    return done.stderr


def test_every_stage(data_root, save_toy, tmp_path):
    for name in ("train", "qat"):
        config = (RECIPE / f"conf/{name}.yaml").read_text()
        config = re.sub("num_iters_per_epoch: .*", "num_iters_per_epoch: 2", config)
        config = config.replace("batch_size: 4", "batch_size: 2")
        (tmp_path / f"{name}.yaml").write_text(config)
    teacher, student = save_toy(seed=1, state=32, layers=3), save_toy(seed=0)
    options = [
        "--corpus", "kaldi", "--data_root", str(data_root), "--teacher", str(teacher),
        "--student", str(student), "--train_config", str(tmp_path / "train.yaml"),
        "--qat_config", str(tmp_path / "qat.yaml"), "--singles", "2", "--nj", "1",
    ]  # fmt: skip
    run(tmp_path, *options, "--stop_stage", "10")
    run(tmp_path, *options, "--stage", "12")  # stage 11 has its own test
    (exp,) = (tmp_path / "exp").iterdir()
    assert exp.name == f"kaldi_{teacher.stem}_{student.stem}_ct2_int8"
    results = json.loads((exp / "results.json").read_text())
    assert results["parity"]["mismatched"] == 0 and results["parity"]["tensors"] > 50
    roles = {s["name"]: s["role"] for s in results["systems"]}
    assert roles["student"] == "student" and set(roles) >= {"untouched", "teacher"}
    for system in results["systems"]:
        assert set(system["wer"]) == {"en", "ru", "mean"} and system["utterances"] == 4
        assert system["bytes_on_disk"] > 0
    assert (exp / "report.html").stat().st_size > 10_000
    assert (exp / "espnet_model.zip").is_file()

    said = run(tmp_path, *options, "--stop_stage", "10")  # what is finished is not done again
    assert said.count("finished before") == 10 and "done in" not in said
    assert "other settings" in run(tmp_path, *options, "--seed", "7", code=2)


def test_usage_and_mistakes(tmp_path):
    assert "unknown option --corpsu" in run(tmp_path, "--corpsu", "x", code=2)
    assert "--skip_train yes" in run(tmp_path, "--skip_train", "yes", code=2)
    assert "--grid int3: unknown grid" in run(tmp_path, "--grid", "int3", code=2)
    assert "grids.yaml: no such file" in run(tmp_path, "--grid", "grids.yaml", code=2)
    assert "needs --data_root" in run(tmp_path, "--corpus", "kaldi", code=2)
    assert "--nj many" in run(tmp_path, "--nj", "many", code=2)
    assert "nowhere.yaml: no such file" in run(tmp_path, "--train_config", "nowhere.yaml", code=2)
    done = subprocess.run([str(RECIPE / "run.sh"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for option in ("--stage", "--skip_train", "--corpus", "--grid", "--tag"):
        assert option in done.stdout
