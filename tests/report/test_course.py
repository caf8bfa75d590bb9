"""What is said of a training's looks at dev."""

import pytest

from espnet_dq.report.course import looks, told, verdict
from espnet_dq.report.train_log import TrainLog


def log(*losses, before=None):
    """A training whose looks at dev had these whole losses, and twice as large cross-entropies."""
    epochs = {n: {"valid": {"loss": x, "loss_ce": 2 * x}} for n, x in enumerate(losses, 1)}
    if before is not None:
        epochs[0] = {"valid": {"loss": 99.0, "loss_ce": before}}
    return TrainLog(epochs=epochs)


def test_the_loss_before_training_is_that_of_texts_alone():
    found = looks(log(1.5, 1.2, before=4.0), 10)
    assert [(x.steps, dict(x.losses)) for x in found] == [
        (0, {"loss_ce": 4.0}),
        (10, {"loss": 1.5, "loss_ce": 3.0}),
        (20, {"loss": 1.2, "loss_ce": 2.4}),
    ]
    assert [x.steps for x in looks(log(1.5, float("nan")), None)] == [1]


@pytest.mark.parametrize(
    ("losses", "before", "words", "not_said"),
    [
        ((1.5, 1.2), 4.0, ["best after 20 steps (loss 1.200)", "more steps may do more",
                           "4.000 before training, 2.400 then."], "overfitting"),
        ((1.5, 1.2, 1.3), 4.0, ["best after 20 steps", "then it rose to 1.300: overfitting"],
         "may do more"),
        ((1.5, 1.2, 1.205), 4.0, ["best after 20 steps"], "overfitting"),
        ((1.5, 1.6), 2.9, ["best after 10 steps", "so the training has not helped"], "may do more"),
        ((1.5,), None, ["best after 10 steps"], "may do more"),
    ],
)  # fmt: skip
def test_what_dev_said(losses, before, words, not_said):
    said = verdict(looks(log(*losses, before=before), 10))
    assert all(word in said for word in words), said
    assert not_said not in said


def test_of_each_training():
    plan = {"kd": {"interval": 10, "said": "20 steps of 4 windows"}}
    said = told(plan, {"kd": log(1.5, 1.2), "qat": log(1.1)})
    assert said["kd"].startswith("20 steps of 4 windows. Dev was best after 20 steps")
    assert said["qat"].startswith("Dev was best after 1 epochs")
    assert told(None, {"kd": TrainLog()}) == {}
