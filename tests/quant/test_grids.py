"""Grids against their bounds, and against the runtimes' own quantizers."""

import gguf
import numpy as np
import pytest
import torch
from ctranslate2.specs import common_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnxruntime.quantization.quant_utils import QuantType, quantize_data

from espnet_dq.errors import InputError
from espnet_dq.quant.grids import get_grid

GRIDS = ["ct2_int8", "uniform8", "uniform4", "uniform2", "uniform4_tensor", "uniform3_g8"]
GRIDS.append("onnx_int8")
GGML = ["ggml_q8_0", "ggml_q5_1", "ggml_q5_0", "ggml_q4_1", "ggml_q4_0"]
values = st.one_of(
    st.floats(-1e4, 1e4, width=32),
    st.floats(-(2.0**-100), 2.0**-100, width=32),
    st.just(0.0),
    st.floats(-(2.0**124), 2.0**124, width=32),
)
matrices = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(16)), elements=values)
# Scales within float16, ties and halves among the values.
block_values = st.one_of(
    st.floats(-1e4, 1e4, width=32), st.integers(-8, 8).map(float), st.just(0.0),
    st.floats(-1.0, 1.0, width=32),
)  # fmt: skip
block_rows = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.just(64)), elements=block_values
)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
@given(matrix=matrices)
@settings(max_examples=50, deadline=None)
def test_on_the_grid_and_near(name, matrix):
    grid, weight = get_grid(name), torch.from_numpy(matrix)
    q = grid.quantize(weight)
    top = 2 ** (grid.bits - 1) - 1
    assert q.integers.dtype == torch.int8
    assert (q.scale.dtype, tuple(q.scale.shape)) == grid.scale_like(tuple(weight.shape))
    assert int(q.integers.abs().max()) <= top  # regression: the published code left the grid
    back = grid.dequantize(q)
    assert torch.equal(back, grid.fake(weight))
    assert torch.isfinite(back).all()
    # Half a step, plus float32 rounding of the value itself and of the division.
    groups = {"uniform4_tensor": (1, -1), "uniform3_g8": (-1, 8)}.get(name, (len(weight), -1))
    step = weight.reshape(groups).abs().amax(1, keepdim=True).double() / top
    error = (weight.double() - back.double()).reshape(groups).abs()
    # and, where 127 / max is beyond float32 or the step below the normal ones, zeros.
    tiny = 127 * torch.finfo(torch.float32).tiny
    assert (error <= step * (0.5 + 1e-5) + tiny).all()


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
@settings(max_examples=50, deadline=None)
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


@pytest.mark.slow
@given(matrix=matrices)
@settings(max_examples=50, deadline=None)
def test_onnx_int8_is_onnx_runtimes(matrix):
    q = get_grid("onnx_int8").quantize(torch.from_numpy(matrix))
    for row, integers, scale in zip(matrix, q.integers.numpy(), q.scale[:, 0].numpy(), strict=True):
        zero, theirs, values = quantize_data(row, QuantType.QInt8.tensor_type, symmetric=True)
        assert zero == 0 and theirs == scale
        np.testing.assert_array_equal(integers, values)


def gguf_parts(matrix, kind):
    """Integers and float16 scales of the bytes that `gguf` writes, unpacked here by the layout."""
    raw = gguf.quantize(matrix, kind).reshape(len(matrix), 2, -1)
    scale, fifth = raw[..., :2].copy().view(np.float16)[..., 0], raw[..., 2:6]
    if kind.name.endswith("_1"):
        scale, fifth = raw[..., :4].copy().view(np.float16), raw[..., 4:8]
    if kind.name == "Q8_0":
        return raw[..., 2:].copy().view(np.int8).reshape(matrix.shape), scale
    nibbles = raw[..., -16:]
    q = np.concatenate([nibbles & 15, nibbles >> 4], axis=-1).astype(np.int16)
    if kind.name.startswith("Q4"):
        return (q - 8).reshape(matrix.shape), scale
    q += 16 * np.unpackbits(fifth, axis=-1, bitorder="little")
    return (q - 16).reshape(matrix.shape), scale


@pytest.mark.slow
@pytest.mark.parametrize("name", GGML)
@given(matrix=block_rows)
@settings(max_examples=50, deadline=None)
def test_ggml_grids_are_ggufs_bit_for_bit(name, matrix):
    matrix[np.abs(matrix) < 1e-30] = 0.0  # gguf's 1 / d overflows there
    kind = gguf.GGMLQuantizationType[name.removeprefix("ggml_").upper()]
    q = get_grid(name).quantize(torch.from_numpy(matrix))
    integers, scale = gguf_parts(matrix, kind)
    np.testing.assert_array_equal(q.integers.numpy(), integers)
    np.testing.assert_array_equal(q.scale.numpy(), scale)
    assert (q.scale.dtype, tuple(q.scale.shape)) == get_grid(name).scale_like(matrix.shape)
    theirs = gguf.dequantize(gguf.quantize(matrix, kind), kind)
    np.testing.assert_array_equal(get_grid(name).dequantize(q).numpy(), theirs)
    np.testing.assert_array_equal(get_grid(name).fake(torch.from_numpy(matrix)).numpy(), theirs)


@pytest.mark.parametrize("name", GGML)
def test_ggml_grids_on_many_values(name):
    kind = gguf.GGMLQuantizationType[name.removeprefix("ggml_").upper()]
    matrix = np.random.default_rng(0).standard_normal((512, 1536)).astype(np.float32) * 0.05
    matrix[:, ::64] = np.round(matrix[:, ::64], 1)  # equal magnitudes of both signs
    matrix[:, 1::64] = -matrix[:, ::64]
    theirs = gguf.dequantize(gguf.quantize(matrix, kind), kind)
    np.testing.assert_array_equal(get_grid(name).fake(torch.from_numpy(matrix)).numpy(), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", GGML)
@given(matrix=block_rows)
@settings(max_examples=60, deadline=None)
def test_ggml_error_bound(name, matrix):
    """Half a step; q5_0 and q4_0 have one integer less on m's far side, so a whole step there.

    On top: d's float16 rounding, relative 2^-11 or, below float16's normal range, 2^-25.
    """
    grid = get_grid(name)
    back = grid.fake(torch.from_numpy(matrix)).double().reshape(-1, 32)
    blocks = torch.from_numpy(matrix).double().reshape(-1, 32)
    if name.endswith("_1"):  # half a step everywhere, and the offset's rounding beside d's
        top = 2**grid.bits - 1
        least = blocks.amin(1, keepdim=True)
        step = (blocks.amax(1, keepdim=True) - least) / top
        tiny = torch.tensor(2.0**-25)
        bound = step / 2 + top * torch.maximum(step * 2.0**-11, tiny) + 1e-9
        bound += torch.maximum(least.abs() * 2.0**-11, tiny)
        assert ((back - blocks).abs() <= bound * 1.0001).all()
        return
    top = 127 if grid.bits == 8 else 2 ** (grid.bits - 1)
    step = blocks.abs().amax(1, keepdim=True) / top
    steps = 0.5 if grid.bits == 8 else 1.0
    bound = step * steps + top * torch.maximum(step * 2.0**-11, torch.tensor(2.0**-25)) + 1e-9
    assert ((back - blocks).abs() <= bound * 1.0001).all()


def test_ggml_scales_beyond_float16_are_refused():
    with pytest.raises(InputError, match="float16"):
        get_grid("ggml_q4_0").quantize(torch.full((1, 32), 1e6))
    with pytest.raises(InputError, match="48 is no multiple of 32"):
        get_grid("ggml_q8_0").quantize(torch.ones(2, 48))


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


@pytest.mark.parametrize("name", [*GRIDS, *GGML])
def test_nan_is_refused(name):
    with pytest.raises(InputError, match="not finite"):
        get_grid(name).quantize(torch.full((2, 32), float("nan")))


@pytest.mark.parametrize(
    "name",
    ["uniform1", "uniform9", "int4", "uniform4_g0", "ct2_int8 ", "uniform4_rows", "ggml_q6_0"],
)
def test_unknown_grids_are_refused(name):
    with pytest.raises(InputError):
        get_grid(name)


def test_a_group_that_does_not_fit():
    with pytest.raises(InputError, match="16 is no multiple of 5"):
        get_grid("uniform4_g5").quantize(torch.ones(2, 16))
