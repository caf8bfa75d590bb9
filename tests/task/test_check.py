"""What ESPnet takes, and a training of ours cannot go through with, is refused in one line."""

from pathlib import Path

import pytest
import yaml

from espnet_dq.errors import InputError
from espnet_dq.task.check import check, check_trainer
from espnet_dq.whisper.dims import SIZES
from tests.toys import RECIPE


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"batch_type": "numel"}, "batch_type: 'numel': here it can only be folded or unsorted or"),
        ({"iterator_type": "chunk"}, "iterator_type: 'chunk': here it can only be sequence"),
        ({"valid_iterator_type": "task"}, "valid_iterator_type: 'task': here .* none or sequence"),
        ({"multiple_iterator": True}, "multiple_iterator: True: here it can only be false"),
        ({"use_deepspeed": True}, "use_deepspeed: True"),
        ({"no_forward_run": True}, "no_forward_run: True"),
        (
            {"patience": 2, "early_stopping_criterion": ["valid", "cer", "min"]},
            "early_stopping_criterion: a list is none of train or valid, and loss or acc",
        ),
        ({"patience": 2, "early_stopping_criterion": "loss"}, "early_stopping_criterion: 'loss'"),
        ({"val_scheduler_criterion": ["dev", "loss"]}, "val_scheduler_criterion: a list is none"),
        ({}, None),
        ({"early_stopping_criterion": ["valid", "cer", "min"]}, None),  # nothing stops by it
        ({"patience": 2, "early_stopping_criterion": ["valid", "acc", "max"]}, None),
        ({"patience": 2, "early_stopping_criterion": ["train", "loss_kl", "min"]}, None),
        ({"batch_type": "sorted", "valid_batch_type": "numel"}, None),  # dev is heard as a whole
        ({"valid_iterator_type": "sequence", "use_deepspeed": False, "patience": None}, None),
    ],
)
def test_what_a_training_cannot_go_through_with(config, said):
    if said is None:
        check_trainer(Path("f.yaml"), config)
        return
    with pytest.raises(InputError, match=rf"^f\.yaml: {said}"):
        check_trainer(Path("f.yaml"), config)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"use_wandb": True}, "use_wandb: true needs the package wandb (pip install wandb); false"),
        ({"use_amp": True}, "use_amp is for GPUs (--ngpu): on a CPU, set precision: bfloat16 in"),
    ],
)
def test_what_is_not_here(keys, said, tmp_path):
    config = tmp_path / "qat.yaml"
    given = yaml.safe_load((RECIPE / "conf/qat.yaml").read_text()) | keys
    config.write_text(yaml.safe_dump(given))
    with pytest.raises(InputError) as error:
        check(config, SIZES["tiny"], SIZES["base"], "ct2_int8", ngpu=0)
    assert str(error.value).startswith(f"{config}: {said}")
