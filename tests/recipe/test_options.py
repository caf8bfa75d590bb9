"""What each option of the recipe decides."""

import re
import shutil
from pathlib import Path

import pytest

from espnet_dq.recipe import settings
from espnet_dq.recipe.options import BY_NAME, DECIDES
from espnet_dq.recipe.settle import settle
from tests.toys import RECIPE

# Of each a value other than in the run below.
OTHER = {
    "stage": "9", "stop_stage": "8", "skip_data": "true", "skip_train": "true",
    "skip_teacher_pass": "true", "skip_eval": "true", "skip_pack": "true",
    "corpus": "kaldi", "data_root": "other", "data_name": "x", "data_licence": "x",
    "language": "de", "split": "8/1/1", "local_data_opts": "--columns x", "allow_pipes": "true",
    "long": "split", "max_left_out": "20", "labels": "check", "singles": "1", "temperature": "2",
    "max_hours": "1", "teacher": "small", "student": "base", "grid": "onnx_int8",
    "also": "onnx_int8", "mode": "joint", "train_config": "train.yaml", "qat_config": "qat.yaml",
    "train_args": "grad_clip=0.25", "qat_args": "grad_clip=0.25", "steps": "70", "epochs": "3",
    "qat_steps": "70", "merge": "0.5", "lr": "0.001", "patience": "3", "seed": "1",
    "test_clips": "5", "test_windows": "true", "systems": "student", "canary": "none",
    "upload_to": "me/mine", "nj": "3", "ngpu": "1", "num_nodes": "2", "cmd": "cmd.sh",
    "expdir": "other", "dumpdir": "other", "cachedir": "other", "tag": "x",
}  # fmt: skip


@pytest.fixture
def caller(tmp_path, monkeypatch):
    """A folder with what options name, seen from the recipe's; ESPnet is not asked."""
    monkeypatch.chdir(RECIPE)
    monkeypatch.setattr("espnet_dq.task.check.check", lambda *_: None)
    for name in ("speech", "other"):
        (tmp_path / name).mkdir()
    shutil.copy("cmd.sh", tmp_path)
    for name in ("train.yaml", "qat.yaml"):
        text = Path("conf", name).read_text()
        (tmp_path / name).write_text(re.sub("log_interval: .*\n", "", text) + "log_interval: 7\n")
    return str(tmp_path)


@pytest.mark.parametrize("name", BY_NAME)
def test_what_an_option_decides(name, caller):
    """What one forgets to note here would change an experiment without a word."""
    given = {"corpus": "csv", "data_root": "speech", "merge": "1", "expdir": "exp"}
    with_other = settle(given | {name: OTHER[name]}, caller)
    decided = [
        noted(settle(given, caller)) != noted(with_other)
        for noted in (settings.training, settings.scoring)
    ]
    decides = BY_NAME[name].decides
    assert decides in DECIDES
    assert decided == [decides in ("training", "within"), decides == "scoring"]
