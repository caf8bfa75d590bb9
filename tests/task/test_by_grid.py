"""What a grid decides in a training on it, wherever that begins: recipe, function or ablation."""

from pathlib import Path

import pytest
import yaml

import espnet_dq as dq
from espnet_dq.api import training
from espnet_dq.errors import InputError
from espnet_dq.recipe.settle import settle
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


@pytest.mark.parametrize("grid", ["ct2_int8", "ggml_q4_0"])
def test_the_function_begins_as_the_recipe(grid, tmp_path, save_toy, monkeypatch):
    class Begun(Exception):
        pass

    def begin(*_):
        raise Begun

    monkeypatch.setattr(training, "_format", begin)
    data = toys.save_corpus(tmp_path / "data")
    models = {"teacher": save_toy(seed=1, state=32, layers=3), "student": save_toy()}
    with pytest.raises(Begun):
        dq.distil(data / "train", data / "dev", **models, out=tmp_path / "exp", grid=grid, nj=1)
    monkeypatch.chdir(toys.RECIPE)
    settled = settle({"grid": grid, "expdir": str(tmp_path)}, "/")
    ours = Path(tmp_path, "exp/qat_config.yaml").read_text()
    assert yaml.safe_load(ours) == yaml.safe_load(settled["qat_yaml"])
