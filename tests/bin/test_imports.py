"""What commands do without: packages that take seconds and memory, or are not installed."""

import subprocess
import sys

import pytest

from tests.toys import RECIPE

SCRIPT = """
import sys
for package in ("espnet", "espnet2", "transformers"):
    sys.modules[package] = None  # as if it were not there
import espnet_dq.task.checkpoints
from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify

toy = sys.argv[1]
for form, grid in (("openai", "none"), ("ct2", "ct2_int8"), ("ggml", "ggml_q5_0"),
                   ("onnx", "onnx_int8"), ("packed", "uniform4"), ("hf", "uniform8")):
    assert convert(["--from", toy, "--to", form, "--grid", grid, "--out", form]) == 0
    if form != "openai":
        assert verify([form, "--against", toy, "--grid", grid]) == 0
"""


@pytest.mark.slow
def test_convert_and_verify_need_neither_espnet_nor_transformers(save_toy, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(save_toy(state=32, layers=1, text_ctx=32))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not run: transformers is not installed" in done.stdout


def test_what_every_run_begins_with_needs_no_torch(tmp_path):
    """It would take longer than all else that a finished run does."""
    script = (
        "import sys\nimport espnet_dq.bin.plan, espnet_dq.bin.recipe\n"
        "from espnet_dq.recipe.lists import lists\nfrom espnet_dq.recipe.settle import settle\n"
        "lists(settle({'expdir': sys.argv[1]}, '/'))\nassert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, cwd=RECIPE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
