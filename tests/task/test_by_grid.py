"""What a grid decides in a training on it; that plans have it is shown in test_plan."""

import pytest

from espnet_dq.config import read_config
from espnet_dq.errors import InputError
from espnet_dq.task.by_grid import by_grid
from tests import toys

CONFIG = {"optim": "adamw", "optim_conf": {"weight_decay": 0.01}, "model_conf": {"alpha": 0.3}}


@pytest.mark.parametrize(
    ("grid", "rate", "ranges"),
    [
        ("ct2_int8", 5e-6, None),
        ("ggml_q5_0", 1e-5, "gptq"),
        ("uniform3_g32", 1e-5, "gptq"),
        ("ggml_q4_1", 1e-5, None),  # has no learned ranges
        ({"decoder.token_embedding.weight": "uniform6_g32"}, 1e-5, None),
    ],
)
def test_what_is_not_said_follows_from_the_grid(grid, rate, ranges):
    found = by_grid(CONFIG, grid, "mine.yaml")
    assert found["optim_conf"] == {"lr": rate, "weight_decay": 0.01}
    assert found["model_conf"] == {"alpha": 0.3} | ({"ranges": ranges} if ranges else {})
    assert CONFIG["optim_conf"] == {"weight_decay": 0.01}


def test_what_is_said_stays():
    said = {"optim": "adamw", "optim_conf": {"lr": 1e-3}, "model_conf": {"ranges": "max"}}
    assert by_grid(said, "ggml_q4_0", "mine.yaml") == said
    for other in ({"ramp": 0.5}, {"train_encoder": "none"}, {"train_encoder": 0}):
        assert by_grid({"model_conf": other}, "ggml_q4_0", "mine.yaml") == {"model_conf": other}
    found = by_grid({"optim": "sgd", "model_conf": {}}, "ct2_int8", "mine.yaml")
    assert found == {"optim": "sgd", "model_conf": {}}  # the rate is AdamW's


def test_a_section_that_is_none():
    for section in ("optim_conf", "model_conf"):
        with pytest.raises(InputError, match=rf"^mine\.yaml: {section} is not a mapping"):
            by_grid({"optim": "adamw", section: [1]}, "ct2_int8", "mine.yaml")


@pytest.mark.parametrize(
    ("name", "grid", "rate", "ranges"),
    [
        ("qat", "ct2_int8", 5e-6, None),
        ("qat", "ggml_q4_0", 1e-5, "gptq"),
        ("qat_long", "ggml_q4_0", 2e-6, "gptq"),
        ("joint", "uniform3_g16", 4e-5, "gptq"),
        ("tuning/qat_paper", "ggml_q4_0", 1e-5, "max"),
        ("tuning/qat_frozen", "ggml_q4_0", 1e-5, None),
    ],
)
def test_the_recipes_configurations(name, grid, rate, ranges):
    path = toys.RECIPE / f"conf/{name}.yaml"
    found = by_grid(read_config(path), grid, str(path))
    assert found["optim_conf"]["lr"] == rate and found["model_conf"].get("ranges") == ranges
