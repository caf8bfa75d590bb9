"""Stage 3's look at the training configurations, by ESPnet's own classes."""

import re

import pytest

from espnet_dq.bin.check_configs import main
from espnet_dq.errors import InputError
from tests import toys


@pytest.mark.slow
def test_what_would_fail_after_hours(save_toy, tmp_path):
    toy, good, bad = str(save_toy()), tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(toys.config("train"))
    given = ["--student", toy, "--teacher", toy, "--grid", "ct2_int8"]
    assert main([str(good), *given, "--processes", "2"]) == 0
    with pytest.raises(InputError, match=r"good\.yaml: batch_size 2 is of all processes .* are 8"):
        main([str(good), *given, "--processes", "8"])
    small = tmp_path / "small.yaml"
    small.write_text(toys.config("train") + "valid_batch_size: 1\n")
    with pytest.raises(InputError, match=r"small\.yaml: valid_batch_size 1 is of all"):
        main([str(small), *given, "--processes", "2"])
    later = tmp_path / "later.yaml"  # ranges that bin.calibrate will write between the trainings
    ranges = "preset: full\n    activations: int8_static\n    activation_ranges: no.json"
    later.write_text(toys.config("qat").replace("preset: full", ranges))
    assert main([str(later), *given]) == 0
    bad.write_text(toys.config("qat").replace("tap: block", "tap: fnn"))
    with pytest.raises(InputError, match=r"bad\.yaml: .*fnn"):
        main([str(good), str(bad), *given])


@pytest.mark.parametrize(("there", "said"), [(0, "torch sees no GPU"), (1, "torch sees 1 GPU")])
def test_gpus_that_are_not_there(there, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: there)
    given = ["no.yaml", "--student", "tiny", "--teacher", "base", "--grid", "ct2_int8"]
    with pytest.raises(InputError, match=rf"^--ngpu {there + 1}: {said}$"):
        main([*given, "--ngpu", str(there + 1)])
    with pytest.raises(InputError, match=r"no\.yaml"):
        main([*given, "--ngpu", str(there)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("batch_type: unsortd", "--batch_type: invalid choice: 'unsortd'"),
        ("valid_batch_type: sort", "--valid_batch_type: invalid choice: 'sort'"),
        ("iterator_type: sequences", "--iterator_type: invalid choice: 'sequences'"),
        ("sort_in_batch: up", "--sort_in_batch: invalid choice: 'up'"),
        ("valid_batch_size: 0", "valid_batch_size: 0 is not a whole number above 0"),
        ("best_model_criterion: [[valid, acc, max]]", "best_model_criterion: .* is without "),
        ("batch_type: numel", "batch_type: 'numel': here it can only be "),
    ],
)
def test_what_espnet_looks_at_only_when_it_trains(save_toy, tmp_path, line, said):
    toy, file = str(save_toy()), tmp_path / "bad.yaml"
    key = line.partition(":")[0]
    kept = re.sub(rf"^{key}:.*\n(-.*\n)*", "", toys.config("train"), flags=re.MULTILINE)
    file.write_text(f"{kept}{line}\n")
    with pytest.raises(InputError, match=rf"bad\.yaml: .*{said}"):
        main([str(file), "--student", toy, "--teacher", toy, "--grid", "ct2_int8"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "model", "said"),
    [
        ("voice: 2", "", r"bad\.yaml: preprocessor_conf: voice: 2 is not a number of 0 to 1"),
        ("pitch: 1", "", r"bad\.yaml: preprocessor_conf: unknown key 'pitch'"),
        ("noise: 0.5", "train_encoder: none", "needs an encoder that is trained"),
        ("speed: 0.5", "lambda_encoder: 1.0", "does not go with the encoder term"),
        ("speed: 0.5", "teacher_window: student", "does not go with teacher_window student"),
    ],
)
def test_what_a_student_cannot_hear(save_toy, tmp_path, keys, model, said):
    toy, file = str(save_toy()), tmp_path / "bad.yaml"
    text = toys.config("train").replace("    teacher_window: full\n", "")
    text = f"{text}preprocessor_conf:\n    {keys}\n"
    file.write_text(text.replace("model_conf:", f"model_conf:\n    {model}"))
    with pytest.raises(InputError, match=said):
        main([str(file), "--student", toy, "--teacher", toy, "--grid", "ct2_int8"])
