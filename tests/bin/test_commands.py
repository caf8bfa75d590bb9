"""Every command, from inside a folder whose modules must not run, and without docstrings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import espnet_dq as dq

BIN = Path(__file__).parents[2] / "espnet_dq/bin"
COMMANDS = sorted(p.stem for p in BIN.glob("*.py") if "def main" in p.read_text(encoding="utf-8"))
MODULES = (
    *sys.stdlib_module_names,
    *("torch", "numpy", "yaml", "av", "safetensors", "tqdm", "whisper", "ctranslate2", "onnx",
      "faster_whisper", "gguf", "soundfile", "scipy", "huggingface_hub", "tokenizers", "pyarrow",
      "transformers", "kaldiio", "tiktoken", "numba", "matplotlib", "psutil", "espnet2", "espnet",
      "onnxruntime", "sitecustomize", "usercustomize"),
)  # fmt: skip


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with a module of every name that we import, each of which leaves a mark."""
    folder = tmp_path_factory.mktemp("model")
    for name in MODULES:
        (folder / f"{name}.py").write_text(
            "import os\nos.close(os.open(os.path.dirname(__file__) + '/RAN', os.O_CREAT))\n"
        )
    return folder


def python(folder, *arguments, **environment):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | environment
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transcribe", "check_configs"])
def test_nothing_of_the_current_folder_runs(hostile, name):
    done = python(hostile, "-m", f"espnet_dq.bin.{name}", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:") and not (hostile / "RAN").exists()


@pytest.mark.slow
def test_every_command_has_its_help_without_docstrings(tmp_path):
    script = (
        "import importlib, sys\nfor name in sys.argv[1:]:\n"
        "    try:\n        importlib.import_module('espnet_dq.bin.' + name).main(['--help'])\n"
        "    except SystemExit as e:\n        assert not e.code\n        print('END', name)\n"
    )
    done = python(tmp_path, "-OO", "-c", script, *COMMANDS)
    assert done.returncode == 0, done.stderr
    assert [x.split()[1] for x in done.stdout.splitlines() if x.startswith("END ")] == COMMANDS


@pytest.mark.slow
def test_nothing_runs_in_real_work(hostile, save_toy, tmp_path):
    toy = save_toy(text_ctx=64)
    out = dq.save(dq.quantize(toy, "ct2_int8"), tmp_path / "ct2")
    options = (out, "--against", toy, "--grid=ct2_int8")  # and it runs in a process of its own
    done = python(hostile, "-OO", "-m", "espnet_dq.bin.verify", *options)
    assert done.returncode == 0, done.stderr
    assert not (hostile / "RAN").exists()


def test_children_of_a_safe_parent_are_safe(hostile):
    script = "import subprocess, sys; sys.argv, sys.orig_argv = ['-m'], ['', '-m', 'espnet_dq.x']\n"
    script += "import espnet_dq; subprocess.run([sys.executable, '-m', 'site'], check=True)"
    done = python(hostile.parent, "-P", "-c", script)
    assert done.returncode == 0 and f"'{hostile.parent}'" not in done.stdout, done.stderr


def test_relative_entries_of_pythonpath(hostile):
    """Not those at which Python itself looks for sitecustomize: path.sh takes them out."""
    script = "import sys; sys.argv, sys.orig_argv = ['-m'], ['python', '-m', 'espnet_dq.x']\n"
    script += "import espnet_dq, os; print(os.getcwd() in sys.path, os.environ['PYTHONSAFEPATH'])"
    done = python(hostile.parent, "-P", "-c", script, PYTHONPATH=":.", PYTHONSAFEPATH="1")
    assert done.stdout.split() == ["False", "1"], done.stderr
