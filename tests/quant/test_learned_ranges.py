"""Learned ranges: gradients, their start, their bounds, and that what they give is exported."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_dq import slices
from espnet_dq.bin.export import main as export
from espnet_dq.bin.verify import main as verify
from espnet_dq.errors import InputError
from espnet_dq.quant.fake_quant import (
    LOWEST,
    RATE,
    FakeQuantize,
    clip_of,
    least_error_clip,
    range_shape,
)
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, prepare, start_ranges
from espnet_dq.student.checkpoint import CHECKPOINT, load_student

GRIDS = ["ct2_int8", "uniform4", "uniform3_tensor", "uniform2_g8", "ggml_q8_0", "ggml_q4_0"]


def learn(name, ranges, weight, clip):
    """A FakeQuantize whose clip is `clip` everywhere."""
    fake = FakeQuantize(get_grid(name), ranges, weight.shape)
    fake.range.data.fill_(clip / RATE)
    return fake


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("ranges", ["lsq", "pact"])
def test_gradients(name, ranges):
    """Against autograd, in float64, of a clip and a straight-through rounding written out."""
    torch.manual_seed(0)
    grid = get_grid(name)
    weight = torch.randn(6, 32, requires_grad=True)
    fake, upstream = learn(name, ranges, weight, 0.4), torch.randn(6, 32)
    (fake(weight) * upstream).sum().backward()

    w = weight.detach().double().requires_grad_()
    clip = torch.full(range_shape(grid, w.shape), 0.4, dtype=torch.float64, requires_grad=True)
    groups, top, bottom = grid.groups(w), grid.top, grid.bottom
    plain = groups.detach()
    largest = plain.gather(2, plain.abs().argmax(2, keepdim=True))
    step = clip.unsqueeze(2) * (largest.abs() / top if top == -bottom else largest / bottom)
    stored = (step.half() / step).detach() if name.startswith("ggml") else 1.0
    scaled = (groups / step).clamp(bottom, top)
    if ranges == "lsq":  # straight through the rounding, whose own slope is 0
        values = (scaled + (scaled.round() * stored - scaled).detach()) * step
    else:
        clipped = (scaled == bottom) | (scaled == top)
        values = torch.where(clipped, scaled * stored, groups / step) * step
    (values * grid.groups(upstream.double())).sum().backward()
    torch.testing.assert_close(weight.grad.double(), w.grad, rtol=1e-5, atol=1e-6)
    factor = (groups.shape[2] * top) ** -0.5 * RATE
    torch.testing.assert_close(fake.range.grad.double(), clip.grad * factor, rtol=1e-4, atol=1e-5)


def test_slope_of_what_is_clipped_is_the_numeric_one():
    """A weight beyond the range has the value of its end, which moves with it."""
    weight = torch.tensor([[1.0, 0.9, -0.8, 0.0, 0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    grid, step = get_grid("uniform4"), 1e-3
    ends = [grid.fake(weight, torch.tensor([[clip]])) for clip in (0.5 - step, 0.5 + step)]
    numeric = float((ends[1] - ends[0]).sum()) / (2 * step)  # 1 + 1 - 1, times the largest, 1
    for ranges in ("lsq", "pact"):
        fake = learn("uniform4", ranges, weight, 0.5)
        fake(weight).sum().backward()
        found = float(fake.range.grad) / RATE * (8 * 7) ** 0.5
        assert found == pytest.approx(numeric, rel=1e-4) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("name", GRIDS)
def test_the_whole_range_is_the_plain_grid(name):
    weight = torch.randn(6, 32)
    fake = learn(name, "lsq", weight, 1.0)
    assert torch.equal(fake(weight), get_grid(name).fake(weight))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(GRIDS), st.integers(0, 2**31), st.floats(-2, 3), st.booleans())
def test_a_range_never_leaves_its_bounds(name, seed, parameter, zero_row):
    """Whatever the optimizer did: integers on the grid, and one of each group at its end."""
    grid, random = get_grid(name), np.random.default_rng(seed)
    weight = torch.from_numpy(random.normal(size=(4, 32)).astype(np.float32))
    if zero_row:
        weight[1] = 0
    clip = clip_of(torch.full(range_shape(grid, weight.shape), parameter))
    assert ((clip >= LOWEST) & (clip <= 1)).all()
    q = grid.quantize(weight, clip)
    reached = grid.groups(q.integers).abs().amax(2)
    assert (reached == -grid.bottom)[grid.groups(weight).abs().amax(2) > 0].all()
    assert torch.equal(grid.dequantize(q), grid.fake(weight, clip))
    if name == "ct2_int8":  # a runtime that quantizes again finds the same integers
        assert torch.equal(grid.quantize(grid.dequantize(q)).integers, q.integers)


def test_at_a_bound_only_the_way_back_is_open():
    weight = torch.tensor([[1.0, 0.9, 0.8, 0.7]])
    for clip, sign in ((1.0, 1), (2.0, 1), (LOWEST, -1), (0.0, -1)):
        for upstream in (1.0, -1.0):
            fake = learn("uniform2", "lsq", weight, clip)
            (fake(weight) * upstream).sum().backward()
            step = -float(fake.range.grad)  # where gradient descent goes
            assert step * sign <= 0, (clip, upstream)


@pytest.mark.parametrize("name", ["uniform2", "uniform4_g8", "ct2_int8", "ggml_q4_0"])
def test_the_start_has_the_least_error(name):
    torch.manual_seed(1)
    grid, weight = get_grid(name), torch.randn(8, 64) ** 3
    best = least_error_clip(weight, grid)

    def error(clip):
        return (grid.groups(grid.fake(weight, clip)) - grid.groups(weight)).square().sum(2)

    for clip in np.arange(0.1, 1.001, 0.02):
        other = error(torch.full_like(best, float(np.float32(clip))))
        assert (error(best) <= other + 1e-6).all()
    if name == "uniform2":
        assert (best < 1).any()


def test_grids_without_learned_ranges(make_toy):
    for grid in ("ggml_q5_1", "onnx_int8"):
        with pytest.raises(InputError, match=f"{grid} takes no learned range"):
            prepare(make_toy(), {"decoder.blocks.0.mlp.0.weight": grid}, "lsq")
    with pytest.raises(InputError, match="unknown ranges 'learned'"):
        prepare(make_toy(), {"decoder.blocks.0.mlp.0.weight": "uniform4"}, "learned")


@pytest.mark.slow
def test_from_a_float_checkpoint_to_the_file(make_toy, tmp_path, capsys):
    """Float weights start the ranges; trained ones are saved, loaded strictly and exported."""
    plain, model = (make_toy(seed=seed, text_ctx=64) for seed in (7, 8))
    model.register_load_state_dict_pre_hook(start_ranges)
    prepare(model, assign_grids(model.dims, "ct2_int8"), "lsq")
    model.load_state_dict(plain.state_dict(), strict=True)
    name = "decoder.blocks.0.mlp.0.weight"
    started = least_error_clip(plain.state_dict()[name], get_grid("ct2_int8"))
    assert torch.equal(model.state_dict()[f"{name}_range"] * RATE, started)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens, audio = torch.tensor([[1, 2, 3]]), torch.randn(1, 20, 64)
    model.decoder(tokens, audio).logsumexp(-1).sum().backward()
    optimizer.step()
    state = model.state_dict()
    assert not torch.equal(state[f"{name}_range"] * RATE, started)

    folder = tmp_path / "exp/qat"
    folder.mkdir(parents=True)
    torch.save({k.replace(".", ".net.", 1): v for k, v in state.items()}, folder / CHECKPOINT)
    config = {
        "encoder": "dq_whisper",
        "decoder": "dq_whisper",
        "encoder_conf": {"dims": vars(model.dims)},
        "model_conf": {"grid": "ct2_int8", "preset": "full", "ranges": "lsq"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    student = load_student(folder)
    layer = model.decoder.blocks[0].mlp[0]
    assert torch.equal(student.reference_weights()[name], layer.weight)
    export(["--exp", str(folder), "--to", "ct2", "--out", str(tmp_path / "ct2")])
    assert verify([str(tmp_path / "ct2"), "--against", str(folder)]) == 0
    # Another range is another file.
    key = "decoder.net.blocks.0.mlp.0.weight_range"
    saved = torch.load(folder / CHECKPOINT, weights_only=True)
    saved[key][3] *= 0.9
    torch.save(saved, folder / CHECKPOINT)
    assert verify([str(tmp_path / "ct2"), "--against", str(folder)]) == 1
    capsys.readouterr()
    del saved[key]
    torch.save(saved, folder / CHECKPOINT)
    with pytest.raises(InputError, match=r"missing key decoder\.blocks\.0\.mlp\.0\.weight_range"):
        load_student(folder)


@pytest.mark.parametrize(
    "name", ["ct2_int8", "uniform4", "uniform4_tensor", "uniform3_g16", "ggml_q5_0"]
)
def test_slices_of_rows_change_nothing(name, monkeypatch):
    torch.manual_seed(0)
    grid = get_grid(name)
    weight = torch.randn(50, 64, requires_grad=True)
    clip = torch.rand(range_shape(grid, weight.shape)) / 2 + 0.5
    grad = torch.randn(50, 64)
    found = []
    for size in (1 << 18, 7 * 64, 1):
        monkeypatch.setattr(slices, "SLICE", size)
        layer = FakeQuantize(grid, "lsq", weight.shape)
        layer.range.data.copy_(clip / RATE)
        values = layer(weight)
        gradients = torch.autograd.grad(values, [weight, layer.range], grad)
        blocks = get_grid("ggml_q8_0").fake(weight)
        found.append([values, *gradients, grid.fake(weight), blocks])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))
