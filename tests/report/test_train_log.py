"""The log parser against lines that ESPnet's own reporter formats."""

import math

import pytest
from espnet2.train.reporter import Reporter

from espnet_dq.errors import InputError
from espnet_dq.report.train_log import read

pytestmark = pytest.mark.filterwarnings("ignore:Mean of empty slice")  # a NaN on purpose

PREFIX = "[node1:0/1] 2026-11-23 10:00:00,123 (trainer:338) INFO: "


def espnet_log(epochs=2, batches=7, interval=3):
    """train.log as ESPnet's reporter words it, and the values that went in."""
    reporter, lines, given = Reporter(), [PREFIX + "1/2epoch started"], {}
    for epoch in range(1, epochs + 1):
        reporter.set_epoch(epoch)
        with reporter.observe("train") as sub:
            for batch in range(1, batches + 1):
                loss = 3.0 / (epoch + batch / 10)
                given[epoch, batch] = loss
                stats = {"loss": loss, "match_l0": 1, "match_l1": 2 + batch % 2, "tiny": 1e-5}
                sub.register({**stats, "big": 4321.0, "x": 1.0, "worst": math.nan})
                sub.next()
                if batch % interval == 0:
                    lines.append(PREFIX.replace("338", "810") + sub.log_message(-interval))
        with reporter.observe("valid") as sub:
            sub.register({"loss": 2.0 / epoch})
            sub.next()
        lines.append(PREFIX + reporter.log_message())
    return "\n".join(lines) + "\n", given


def test_espnets_own_lines(tmp_path):
    text, given = espnet_log()
    (tmp_path / "train.log").write_text(text)
    log = read(tmp_path / "train.log")
    assert [(i.epoch, i.first, i.last) for i in log.intervals] == [
        (1, 1, 3),
        (1, 4, 6),
        (2, 1, 3),
        (2, 4, 6),
    ]
    at, loss = log.curve("loss")
    assert at == pytest.approx([3 / 7, 6 / 7, 1 + 3 / 7, 1 + 6 / 7])
    assert loss[0] == pytest.approx(sum(given[1, b] for b in (1, 2, 3)) / 3, abs=5e-4)
    assert log.intervals[0].values["tiny"] == pytest.approx(1e-5)
    assert log.intervals[0].values["big"] == pytest.approx(4321)
    assert math.isnan(log.intervals[0].values["worst"])
    assert log.student_layers() == [0, 1]
    assert log.curve("match_l1")[1][0] == pytest.approx((3 + 2 + 3) / 3, abs=1e-3)
    assert [log.epochs[e]["valid"]["loss"] for e in (1, 2)] == [2.0, 1.0]
    assert log.epochs[2]["train"]["total_count"] == 14
    assert "time" not in log.epochs[1]["train"]


def test_waiting_for_data(tmp_path):
    """By ESPnet's own reporter: two batches a step, of which the second of an epoch is slow."""
    reporter, lines = Reporter(), []
    for epoch, times in ((1, (0.1, 0.3)), (2, (0.05, 0.05))):
        reporter.set_epoch(epoch)
        with reporter.observe("train") as sub:
            for batch in range(1, 9):
                sub.register({"iter_time": times[batch % 2], "loss": 1.0})
                if batch % 2 == 0:
                    sub.register({"train_time": 1.0})
                sub.next()
        lines.append(PREFIX + reporter.log_message())
    (tmp_path / "train.log").write_text("\n".join(lines))
    log = read(tmp_path / "train.log", accum_grad=2)
    assert log.waiting() == pytest.approx((8 * 0.2 + 8 * 0.05) / (4 + 4))
    (tmp_path / "train.log").write_text(espnet_log()[0])
    assert read(tmp_path / "train.log").waiting() is None


def test_durations_are_not_taken_for_numbers(tmp_path):
    line = "1epoch results: [train] loss=1.500, time=1 hour, 2 minutes and 3.5 seconds, "
    line += (
        "total_count=40, [valid] loss=0.900, time=4 seconds, total_count=4, [att_plot] time=0.100"
    )
    (tmp_path / "train.log").write_text(PREFIX + line + "\n")
    epochs = read(tmp_path / "train.log").epochs
    assert epochs[1]["train"] == {"loss": 1.5, "total_count": 40}
    assert epochs[1]["valid"] == {"loss": 0.9, "total_count": 4}


def test_a_resumed_epoch_replaces_its_first_part(tmp_path):
    """Killed in epoch 2 and resumed there: each batch once, from the resumed run."""
    killed = [x for x in espnet_log()[0].splitlines() if " 2epoch results" not in x]
    resumed = [x for x in espnet_log(interval=2)[0].splitlines() if " 2epoch" in x]
    (tmp_path / "train.log").write_text("\n".join(killed + resumed))
    log = read(tmp_path / "train.log")
    assert [(i.epoch, i.last) for i in log.intervals] == [(1, 3), (1, 6), (2, 2), (2, 4), (2, 6)]
    assert log.curve("loss")[0] == sorted(log.curve("loss")[0])


def test_unfinished_first_epoch(tmp_path):
    (tmp_path / "train.log").write_text(PREFIX + "1epoch:train:1-20batch: loss=2.300\n")
    assert read(tmp_path / "train.log").curve("loss") == ([1.0], [2.3])


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "train.log")
    (tmp_path / "train.log").write_text("some other log\n")
    with pytest.raises(InputError, match="no line of training"):
        read(tmp_path / "train.log")
