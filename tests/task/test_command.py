"""What ESPnet's trainer is told, as it reads it."""

import argparse
import json

import pytest
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_dq.bin import run_training
from espnet_dq.config import CHECKPOINT
from espnet_dq.errors import InputError
from espnet_dq.task.checkpoints import LAST
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
    assert "--log_level=INFO" in words  # from which progress and reports are read


def test_exit_code_2_is_of_what_could_not_begin(tmp_path, monkeypatch):
    """ESPnet's own of that number says nothing on the screen."""
    monkeypatch.setattr(Training, "prepare", lambda *_: tmp_path / "run.sh")
    given = ["--exp", str(tmp_path), "--name", "kd", "--init", "x", "--teacher", "y"]
    for code, told in ((0, 0), (2, 1), (143, 143)):
        monkeypatch.setattr(run_training, "run_here", lambda _, code=code: code)
        assert run_training.main([*given, "--padding", "zeros"]) == told


def test_a_half_done_training_keeps_its_teacher(tmp_path, monkeypatch):
    """Answers that were kept, or the teacher itself: other losses, which one run cannot have."""
    for file in ("student.dims", "teacher.dims", "student.grid"):
        (tmp_path / "exp/init").mkdir(parents=True, exist_ok=True)
        (tmp_path / "exp/init" / file).write_text(json.dumps({"n_audio_ctx": 1500}))
    for part in ("train", "dev"):
        (tmp_path / "exp/cache" / part).mkdir(parents=True)
        (tmp_path / "exp/cache" / part / "teacher_ids.scp").touch()
    monkeypatch.setattr("espnet_dq.task.train.repair", lambda _: [])
    kept, live = (
        Training(tmp_path / "exp", tmp_path / "base.pt", "zeros", live=live)
        for live in (False, True)
    )
    out, start = tmp_path / "exp/kd", tmp_path / "exp/init/student.pth"
    for one, other, how in (
        (kept, live, "with stage 4's answers of the teacher"),
        (live, kept, "with --skip_teacher_pass true"),
    ):
        (out / LAST).unlink(missing_ok=True)
        (out / CHECKPOINT).unlink(missing_ok=True)
        one.prepare("kd", start)
        before = other.prepare("kd", start).read_text()  # nothing is done yet
        one.prepare("kd", start)
        (out / LAST).touch()
        script = one.prepare("kd", start).read_text()
        with pytest.raises(InputError, match=f"exp/kd: is half done {how}, which decides its"):
            other.prepare("kd", start)
        assert (out / "run.sh").read_text() == script != before
        (out / CHECKPOINT).touch()
        other.prepare("kd", start)
