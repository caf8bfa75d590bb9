"""Grids against their bounds, and against CTranslate2's own quantizer."""

import numpy as np
import pytest
import torch
from ctranslate2.specs import common_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from espnet_dq.errors import InputError
from espnet_dq.quant.grids import get_grid

GRIDS = ["ct2_int8", "uniform8", "uniform4", "uniform2", "uniform4_tensor", "uniform3_g8"]
values = st.one_of(
    st.floats(-1e4, 1e4, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.just(0.0),
    st.floats(-(2.0**124), 2.0**124, width=32),
)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(16)), elements=values)


@pytest.mark.parametrize("name", GRIDS)
@given(matrix=matrices)
@settings(max_examples=150, deadline=None)
def test_on_the_grid_and_near(name, matrix):
    grid, weight = get_grid(name), torch.from_numpy(matrix)
    q = grid.quantize(weight)
    top = 2 ** (grid.bits - 1) - 1
    assert q.integers.dtype == torch.int8
    assert int(q.integers.abs().max()) <= top  # regression: the published code left the grid
    back = grid.dequantize(q)
    assert torch.equal(back, grid.fake(weight))
    assert torch.isfinite(back).all()
    # Half a step, plus float32 rounding of the value itself and of the division.
    groups = {"uniform4_tensor": (1, -1), "uniform3_g8": (-1, 8)}.get(name, (len(weight), -1))
    step = weight.reshape(groups).abs().amax(1, keepdim=True).double() / top
    error = (weight.double() - back.double()).reshape(groups).abs()
    # and, where 127 / max is beyond float32, zeros.
    assert (error <= step * (0.5 + 1e-5) + 127 / torch.finfo(torch.float32).max).all()


@pytest.mark.parametrize("name", GRIDS)
@given(matrix=matrices)
@settings(max_examples=60, deadline=None)
def test_integers_survive_a_second_quantization(name, matrix):
    grid = get_grid(name)
    weight = torch.from_numpy(matrix)
    # Below the smallest normal float32 a step cannot be kept to full precision.
    weight[weight.abs() < 1e-20] = 0.0
    q = grid.quantize(weight)
    assert torch.equal(grid.quantize(grid.dequantize(q)).integers, q.integers)


@given(matrix=matrices)
@settings(max_examples=100, deadline=None)
def test_ct2_int8_is_ctranslate2s(matrix):
    matrix[np.abs(matrix) < 1e-30] = 0.0
    spec = common_spec.LinearSpec()
    spec.weight = matrix.copy()
    spec.bias = np.zeros(len(matrix), np.float32)
    spec.validate()
    spec.optimize(quantization="int8")
    q = get_grid("ct2_int8").quantize(torch.from_numpy(matrix))
    np.testing.assert_array_equal(q.integers.numpy(), spec.weight.numpy())
    np.testing.assert_array_equal(q.scale.numpy(), spec.weight_scale.numpy())


def test_ct2_int8_is_not_the_division():
    """w * (127 / max) and w / (max / 127) differ: the grid must be the first."""
    torch.manual_seed(0)
    weight = torch.randn(512, 4096)
    top = weight.abs().amax(1, keepdim=True)
    q = get_grid("ct2_int8").quantize(weight).integers
    assert torch.equal(q, (weight * torch.full_like(top, 127).div(top)).round().to(torch.int8))
    assert not torch.equal(q, (weight / (top / 127)).round().to(torch.int8))


def test_skewed_tensor_at_four_bits():
    """Regression: a scale of `weight.max()`, unclamped, gave -28..7 for such a tensor."""
    weight = torch.tensor([[-4.0, -2.4, 0.5, 1.0]])
    q = get_grid("uniform4").quantize(weight)
    assert q.integers.tolist() == [[-7, -4, 1, 2]]


def test_conv_weights_are_rows():
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3)
    q = get_grid("ct2_int8").quantize(weight)
    assert q.integers.shape == weight.shape
    assert torch.equal(
        q.integers.reshape(6, 12), get_grid("ct2_int8").quantize(weight.reshape(6, 12)).integers
    )


@pytest.mark.parametrize("name", GRIDS)
def test_nan_is_refused(name):
    with pytest.raises(InputError, match="not finite"):
        get_grid(name).quantize(torch.full((2, 16), float("nan")))


@pytest.mark.parametrize(
    "name", ["uniform1", "uniform9", "int4", "uniform4_g0", "ct2_int8 ", "uniform4_rows"]
)
def test_unknown_grids_are_refused(name):
    with pytest.raises(InputError):
        get_grid(name)


def test_a_group_that_does_not_fit():
    with pytest.raises(InputError, match="16 is no multiple of 5"):
        get_grid("uniform4_g5").quantize(torch.ones(2, 16))
