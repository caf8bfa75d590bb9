"""How long a training is, by its data or by what is said of it."""

import json

import pytest
import yaml
from espnet2.samplers.unsorted_batch_sampler import UnsortedBatchSampler

from espnet_dq.errors import InputError
from espnet_dq.task.plan import LEAST, MOST_PASSES, Wanted, complete, follow, heard, on_grid, plan

BASE = {
    "batch_type": "unsorted",
    "batch_size": 4,
    "optim": "adamw",
    "scheduler": "tristagelr",
    "scheduler_conf": {"warmup_ratio": 0.1},
}
FIXED = {"max_epoch": 3, "num_iters_per_epoch": 20}


@pytest.mark.parametrize(
    ("windows", "steps"),
    [(1, MOST_PASSES), (8, 2 * MOST_PASSES), (80, LEAST), (1000, 500), (60_000, 30_000)],
)
def test_steps_follow_the_data(windows, steps):
    whole, length = complete(BASE, "f", windows, 40)
    assert steps <= length.steps < steps + whole["max_epoch"]
    assert whole["max_epoch"] * whole["num_iters_per_epoch"] == length.steps
    assert whole["scheduler_conf"] == {"warmup_ratio": 0.1, "max_steps": length.steps}
    assert "max_steps" not in BASE["scheduler_conf"]


@pytest.mark.parametrize(
    ("windows", "accum", "steps", "said"),
    [
        (3, 1, 8, "8 steps of 3 windows: of 3 windows each 8.0 times"),
        (7, 1, 8, "8 steps of 7 windows: of 7 windows each 8.0 times"),
        (11, 1, 16, "16 steps of 6 windows: of 11 windows each 8.0 times"),
        (2, 2, 4, "4 steps of 4 windows: of 2 windows each 8.0 times"),
    ],
)
def test_few_windows_are_heard_as_often_as_is_said(windows, accum, steps, said, tmp_path):
    """ESPnet makes no batch of fewer than `batch_size`: 7 windows are one batch of 7."""
    config = BASE | {"accum_grad": accum}
    whole, length = complete(config, "f", windows, 100)
    assert length.steps == steps and str(length).startswith(said)
    assert follow(config, windows, 4) == 4 * steps / MOST_PASSES
    table = tmp_path / "shapes"
    table.write_text("".join(f"u{i} 480000\n" for i in range(windows)))
    batches = [*UnsortedBatchSampler(BASE["batch_size"], str(table))]
    passes = whole["max_epoch"] * whole["num_iters_per_epoch"] / len(batches)
    assert passes == MOST_PASSES and max(map(len, batches)) <= windows


@pytest.mark.parametrize("accum", [1, 3])
@pytest.mark.parametrize("dev", [1, 40, 100])
@pytest.mark.parametrize("steps", [1, 2, 49, 500])
def test_dev_is_heard_at_intervals(steps, dev, accum):
    """At least twice, and for no more than 15 % of the time: a step's pass is three forwards."""
    whole, length = complete(BASE | {"accum_grad": accum}, "f", 300, dev, steps)
    looks = length.steps // length.interval
    assert length.steps == looks * length.interval >= steps
    assert whole["num_iters_per_epoch"] == accum * length.interval
    assert looks >= min(steps, 2)
    assert looks <= 2 or looks * dev / 3 <= 0.15 * length.steps * length.batch
    assert looks <= 2 or length.interval >= 10
    assert length.steps <= steps * 1.03 + 1


def test_a_configuration_that_fixes_its_length_keeps_it():
    whole, length = complete(BASE | FIXED, "f", 1000, 40)
    assert (length.steps, length.interval, whole["scheduler_conf"]["max_steps"]) == (60, 20, 60)
    once = complete(BASE | {"max_epoch": 2}, "f", 1000, 40)[1]  # of ESPnet's epochs, all windows
    assert (once.steps, once.interval) == (500, 250)
    other, _ = complete({"scheduler": "warmuplr", "scheduler_conf": {"warmup_steps": 9}}, "f", 9, 9)
    assert other["scheduler_conf"] == {"warmup_steps": 9}


@pytest.mark.parametrize(
    ("config", "steps", "words"),
    [
        ({"scheduler_conf": {"max_steps": 50}}, None, "f: scheduler_conf.max_steps: 50: leave it"),
        (FIXED | {"scheduler_conf": {"max_steps": 50}}, None, "max_steps: 50, but there are 60"),
        ({"num_iters_per_epoch": 20}, None, "f: num_iters_per_epoch without max_epoch"),
        (FIXED | {"accum_grad": 30}, None, "f: accum_grad: an epoch has 20 batches: not one step"),
        ({"max_epoch": "two"}, None, "f: max_epoch: 'two' is not a whole number above 0"),
        ({"batch_size": 0}, None, "f: batch_size: 0 is not a whole number above 0"),
        ({"scheduler_conf": 5}, None, "f: scheduler_conf is not a mapping"),
        (
            {"max_epoch": 2, "batch_type": "folded"},
            None,
            "f: max_epoch without num_iters_per_epoch:",
        ),
        (FIXED, 10, "f: max_epoch: it fixes a length, and so do --steps"),
    ],
)
def test_contradictions_are_refused(config, steps, words):
    with pytest.raises(InputError, match=words):
        complete(BASE | config, "f", 1000, 40, steps)


def test_windows_that_are_heard():
    free, fixed = {"a": BASE, "b": BASE}, {"a": BASE | FIXED, "b": BASE}
    assert heard(free, Wanted()) is None
    assert heard(free, Wanted(epochs=2)) is None
    assert heard(free, Wanted(steps=10)) == 40
    assert heard(free, Wanted(steps=10, qat_steps=30)) == 120
    assert heard(fixed, Wanted()) == 240
    assert heard({"a": BASE | {"max_epoch": 2}}, Wanted()) is None  # all, twice
    for wanted in (Wanted(steps=10), Wanted(epochs=2.0)):
        with pytest.raises(InputError, match="a: max_epoch: it fixes a length"):
            heard(fixed, wanted)
    with pytest.raises(InputError, match="both say"):
        Wanted(steps=1, epochs=1)
    for wrong in ({"steps": 0}, {"steps": -5}, {"qat_steps": 1.5}, {"epochs": -1.0}, {"epochs": 0}):
        with pytest.raises(InputError, match=f"{min(wrong)}: "):
            Wanted(**wrong)


@pytest.mark.parametrize(("first", "steps"), [(8, 8), (30, 20), (100, 20), (101, 21), (500, 100)])
def test_steps_on_the_grid(first, steps):
    assert on_grid(first) == steps


def test_the_plan_of_an_experiment(tmp_path):
    """The second training has a share of the first one's steps, and both files say their own."""
    for name, count in (("train", 200), ("dev", 10)):
        (tmp_path / name).mkdir()
        lines = "".join(f"u{i:03d} /{i}.wav\n" for i in range(count))
        (tmp_path / name / "wav.scp").write_text(lines)
    configs = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    configs[0].write_text(yaml.safe_dump(BASE))
    configs[1].write_text(yaml.safe_dump(BASE | {"batch_size": 8}))
    data = (tmp_path / "train", tmp_path / "dev")
    lengths = plan(configs, data, tmp_path / "exp", Wanted(epochs=4), "ggml_q4_0")
    assert lengths["kd"].steps == 200 and 20 <= lengths["qat"].steps < 25
    assert "each 4.0 times" in str(lengths["kd"])
    for name, length in lengths.items():
        config = yaml.safe_load((tmp_path / f"exp/conf/{name}.yaml").read_text())
        assert config["max_epoch"] * config["num_iters_per_epoch"] == length.steps
    # Of the grid only the training on it.
    on = yaml.safe_load((tmp_path / "exp/conf/qat.yaml").read_text())
    assert on["optim_conf"] == {"lr": 1e-5} and on["model_conf"] == {"ranges": "gptq"}
    kd = yaml.safe_load((tmp_path / "exp/conf/kd.yaml").read_text())
    assert "optim_conf" not in kd and "model_conf" not in kd
    told = json.loads((tmp_path / "exp/plan.json").read_text())
    assert told["kd"]["windows"] == 200 and told["qat"]["steps"] == lengths["qat"].steps
    plan([configs[0]] * 2, data, tmp_path / "same", Wanted(), "ggml_q4_0")
    kd, on = ((tmp_path / f"same/conf/{name}.yaml").read_text() for name in ("kd", "qat"))
    assert "gptq" not in kd and "gptq" in on
    only = plan(configs[:1], data, tmp_path / "joint", Wanted(steps=20), "ct2_int8")
    assert [*only] == ["qat"] and "40 % of them" in str(only["qat"])
