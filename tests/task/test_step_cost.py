"""The benchmarks of a training step: what they time runs, and answers given are used."""

import pytest

import step_cost


def test_a_variant(weights_dir):
    conf = {**step_cost.VARIANTS["logits, qat full"], "teacher_window": "student"}
    model, optimizer = step_cost.build(weights_dir, False, window="batch", **conf)
    batch = step_cost.make_batch(1, 0.5, 3)
    step_cost.warm_up(model, optimizer, batch)
    assert step_cost.step(model, optimizer, batch) > 0
    assert not any(value.isnan().any() for value in model.parameters())


@pytest.mark.slow
def test_cached(weights_dir):
    """The loss is that of the same step without a cache, and the encoders are not run."""
    model, _ = step_cost.build(weights_dir, True, matching="dynamic_monotonic", preset="none")
    batch = step_cost.make_batch(2, 0.5, 3)
    entries = step_cost.cached_entries(model, batch)
    live, stats, _ = model(**batch)
    model.encoder.forward = model.teacher.hear = None
    cached, given, _ = model(**batch, **entries)
    assert given["loss_ce"] == pytest.approx(stats["loss_ce"].item(), rel=1e-4)
    assert cached.item() == pytest.approx(live.item(), rel=0.05)  # of 64 tokens, not all
