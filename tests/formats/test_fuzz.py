"""A short run of the fuzzing in benchmarks/: 200 damaged files a format."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "benchmarks/fuzz_loaders.py"


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    "form", ["openai", "ggml", "ct2", "packed", "hf", "hf_index", "onnx", "onnx_hf"]
)
def test_damaged_files_end_in_a_result_or_our_error(form, tmp_path):
    out = tmp_path / "out.jsonl"
    options = ["--format", form, "--inputs", "200", "--seed", "1"]
    options += ["--keep", str(tmp_path / "kept"), "--out", str(out)]
    done = subprocess.run([sys.executable, str(FUZZ), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    outcomes = json.loads(out.read_text())["outcomes"]
    assert outcomes["result"] > 1 and outcomes["InputError"] > 40  # both ends are reached
