"""What ESPnet's trainer is told, as it reads it."""

import argparse
import json

import pytest
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_dq.task.train import Training


@pytest.mark.parametrize("folder", ["Models #2", "a: b", "[x]", "Модели", "a 'b' \\n"])
def test_a_teacher_in_any_folder(folder, tmp_path):
    """A value of a section is YAML to ESPnet, a path is none."""
    (tmp_path / "exp/init").mkdir(parents=True)
    for file in ("student.dims", "teacher.dims", "student.grid"):
        (tmp_path / "exp/init" / file).write_text(json.dumps({"n_audio_ctx": 1500}))
    teacher = tmp_path / folder / "base.pt"
    training = Training(tmp_path / "exp", teacher, "zeros", live=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--model_conf", action=NestedDictAction, default={})
    words = training.command("kd", tmp_path / "exp/init/student.pth")
    read, _ = parser.parse_known_args([w for w in words if w.startswith("--model_conf=")])
    assert read.model_conf["teacher"] == str(teacher)
