"""ESPnet's trainer in two processes (gloo) against one with the same global batches."""

from argparse import Namespace

import pytest
import torch.distributed as dist

from benchmarks.faults.ddp import NEAR, SEVEN, differences, one, two, weights
from espnet_dq.errors import WorkError
from espnet_dq.task.plugin import main_worker
from tests.task.toy_recipe import short_windows


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_two_processes_are_one(tmp_path):
    """Losses, weights, projector and ranges, with parts of two and of one utterance.

    ESPnet itself spawns the two; the teacher is none of their weights.
    """
    recipe = short_windows(tmp_path / "recipe", SEVEN)
    first, both = one(recipe, tmp_path / "one"), two(recipe, tmp_path / "two")
    found = differences(first, both)
    assert set(found) == {"weights", "projector", "ranges", "losses"}
    assert max(found.values()) <= NEAR, found
    before, a, b = weights(first, 1), weights(first), weights(both)
    assert "projector.weight" in a and not any("teacher" in name for name in a)
    assert any(name.endswith("weight_range") for name in a)
    assert a["projector.term_weight"].isfinite()
    moved = 0
    for name in a:
        if not name.startswith(("encoder", "decoder")) or name.endswith("_range"):
            continue
        way = (a[name] - before[name]).norm()
        # Room for each value to be rounded the other way once, where a sum was next to a tie.
        rounding = 2**-24 * a[name].norm()
        assert (a[name] - b[name]).norm() < 0.05 * way + rounding, name
        moved += int(way > 4 * rounding)
    assert moved > 50


def test_a_lost_process_is_named(monkeypatch):
    """What gloo says in the processes that are left, each of which has its own log."""
    from espnet2.tasks.abs_task import AbsTask

    said = "[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4242"

    def train(cls, args):
        raise RuntimeError(said)

    monkeypatch.setattr(AbsTask, "main_worker", classmethod(train))
    with pytest.raises(WorkError, match=r"process 0 of 2 has lost another one, .*closed"):
        main_worker(Namespace(dist_world_size=2, dist_rank=0))
    for alone in (None, 1):
        with pytest.raises(RuntimeError, match="gloo"):
            main_worker(Namespace(dist_world_size=alone, dist_rank=None))


def test_a_group_ends_before_its_process(monkeypatch, tmp_path):
    """Regression: gloo's threads, alive when Python ended, aborted trainings that were done."""
    from espnet2.tasks.abs_task import AbsTask

    def train(cls, args):
        dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)

    monkeypatch.setattr(AbsTask, "main_worker", classmethod(train))
    try:
        main_worker(Namespace(dist_world_size=1, dist_rank=0))
        assert not dist.is_initialized()
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
