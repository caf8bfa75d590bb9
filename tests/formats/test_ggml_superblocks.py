"""ggml's superblocks: our bytes as the `gguf` package and whisper.cpp read them."""

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from espnet_dq.bin.verify import main as verify
from espnet_dq.errors import InputError
from espnet_dq.formats import detect, integers
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.ggml.pack import pack
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.write import write
from espnet_dq.quant.activations import q8_K_blocks
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize
from espnet_dq.runtimes import load_runtime
from espnet_dq.whisper.weights import Weights
from tests import toys

GRIDS = [f"ggml_q{bits}_K" for bits in (6, 5, 4, 3, 2)]
values = st.floats(-4, 4, width=32) | st.sampled_from([0.0, -0.0, 1e-7, -1e-7, 3e-39, 700.0])
matrices = arrays(np.float32, (2, 512), elements=values, fill=st.nothing() | values)


def kind_of(grid):
    return gguf.GGMLQuantizationType[grid.removeprefix("ggml_").upper()]


def bytes_of(q, weight):
    raw = pack(q, kind_of(q.grid).name, weight, "weight", "file")
    return np.frombuffer(raw, np.uint8).reshape(len(weight), -1)


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
@given(matrix=matrices)
@settings(max_examples=60, deadline=None)
def test_gguf_reads_the_values_that_training_sees(name, matrix):
    """And our own reader the integers and scales."""
    grid, weight = get_grid(name), torch.from_numpy(matrix)
    q = grid.quantize(weight)
    assert (q.scale.dtype, tuple(q.scale.shape)) == grid.scale_like(matrix.shape)
    raw = bytes_of(q, weight)
    seen = grid.fake(weight).numpy()
    np.testing.assert_array_equal(gguf.dequantize(raw, kind_of(name)), seen)
    np.testing.assert_array_equal(grid.dequantize(q).numpy(), seen)
    stored = ggml.Stored(kind_of(name), matrix.shape, raw.reshape(-1))
    assert stored.scales().tobytes() == q.scale.numpy().tobytes()  # not even 0.0 for -0.0


@pytest.mark.parametrize("name", GRIDS)
def test_every_integer_and_every_scale_has_its_place(name):
    """Random ones, all values of each among them, through gguf and back."""
    grid, random = get_grid(name), np.random.default_rng(0)
    q = grid.quantize(torch.from_numpy(random.standard_normal((64, 512)).astype(np.float32)))
    top = 2 ** (grid.bits - 1) - 1
    q.integers.copy_(torch.from_numpy(random.integers(-top - 1, top + 1, (64, 512))))
    small = (-grid.small, grid.small) if not grid.offsets else (0, grid.small + 1)
    first = 2 if grid.offsets else 1
    shape = q.scale[..., first:].shape
    q.scale[..., first:] = torch.from_numpy(random.integers(*small, shape)).half()
    raw = bytes_of(q, q.integers)
    found = gguf.dequantize(raw, kind_of(name))
    np.testing.assert_array_equal(found, grid.dequantize(q).numpy())
    assert len(np.unique(q.integers)) == 2**grid.bits


@pytest.mark.parametrize("name", GRIDS)
def test_error(name):
    """Better than blocks of 32 with as many bits, and each value near its own."""
    weight = torch.from_numpy(np.random.default_rng(1).standard_normal((64, 512)) * 0.05).float()
    grid = get_grid(name)
    error = (grid.fake(weight) - weight).norm() / weight.norm()
    bound = {6: 0.025, 5: 0.045, 4: 0.09, 3: 0.18, 2: 0.38}[grid.bits]
    assert error < bound
    if grid.bits in (4, 5):
        assert (
            error < (get_grid(f"ggml_q{grid.bits}_0").fake(weight) - weight).norm() / weight.norm()
        )
    groups = weight.reshape(64, -1, grid.group)
    # A step of the group: its scale is rounded to one of the small integers.
    step = groups.abs().amax(2) * 2 / (2**grid.bits - 1) + groups.abs().amax() / grid.small
    off = (grid.fake(weight) - weight).reshape(groups.shape).abs().amax(2)
    assert (off <= 2 * step).all()


def test_widths_that_do_not_fit():
    with pytest.raises(InputError, match="no multiple of 256; ggml_q4_0 takes multiples of 32"):
        get_grid("ggml_q4_K").quantize(torch.ones(2, 384))
    with pytest.raises(InputError, match="too large for a float16 scale"):
        get_grid("ggml_q6_K").quantize(torch.full((1, 256), 1e9))


@pytest.fixture(scope="module")
def wide():
    """A model whose widths are multiples of 256."""
    model = toys.make_model(0, 256, 1, text_ctx=32, audio_ctx=100)
    return Weights(model.dims, model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_whisper_cpp_runs_it_and_verify_proves_it(name, wide, tmp_path, capsys):
    save_pt(tmp_path / "x.pt", wide, torch.float32)
    quantized = quantize(wide.state, assign_grids(wide.dims, name))
    path = tmp_path / "x.bin"
    write("ggml", path, wide, quantized, "float16")
    command = [str(path), "--against", str(tmp_path / "x.pt"), "--grid", name]
    assert verify(command) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1].endswith(" 0 mismatched") and "whisper.cpp" in said
    kept = integers.load(path)
    assert kept.keys() == quantized.keys()
    for weight, q in quantized.items():
        assert kept[weight].grid == name
        assert torch.equal(kept[weight].integers, q.integers)
        assert torch.equal(kept[weight].scale, q.scale)
    assert (
        load_runtime("whisper.cpp", path, threads=1).compute_type
        == name.removeprefix("ggml_").lower()
    )
    if name != "ggml_q4_K":  # what follows is one code for all
        return
    write("packed", tmp_path / "x.packed", wide, kept, "float16")
    packed = [str(tmp_path / "x.packed"), *command[1:]]
    assert verify(packed) == 0 and torch.equal(
        detect.load(tmp_path / "x.packed").state["decoder.blocks.0.mlp.0.weight"],
        get_grid(name).fake(wide.state["decoder.blocks.0.mlp.0.weight"]),
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"decoder.blocks.0.mlp.0.weight") + len("decoder.blocks.0.mlp.0.weight")
    data[at + 60] ^= 1
    path.write_bytes(data)
    assert verify(command) == 1


def test_a_model_that_is_too_narrow(save_toy, tmp_path):
    weights = detect.load(save_toy(state=64, layers=1))
    quantized = quantize(weights.state, assign_grids(weights.dims, "ggml_q4_0"))
    for q in quantized.values():
        object.__setattr__(q, "grid", "ggml_q4_K")
    with pytest.raises(
        InputError, match=r"no multiple of 256, as ggml_q4_K needs: ggml_q8_0, .* fit"
    ):
        write("ggml", tmp_path / "x.bin", weights, quantized, "float16")


def test_what_superblocks_are_multiplied_by():
    """127 steps to each side of a block's largest value, which stays as it is."""
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((3, 512))).float()
    x[1, :256] = 0
    rounded = q8_K_blocks(x)
    blocks, near = x.reshape(-1, 256), rounded.reshape(-1, 256)
    top = blocks.abs().amax(1, keepdim=True)
    assert ((near - blocks).abs() <= top / 127 / 2 * 1.001).all()
    assert torch.allclose(near.abs().amax(1, keepdim=True), top, rtol=1e-6)
    assert (rounded[1, :256] == 0).all()
