"""Packed files: the very weights back, each changed bit seen, bad files refused."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, safe_open, save_file

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.verify import main as verify
from espnet_dq.errors import InputError
from espnet_dq.formats import detect
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.packed import read as packed
from espnet_dq.formats.packed.write import pack
from espnet_dq.formats.packed.write import save as save_packed
from espnet_dq.formats.write import write
from espnet_dq.quant.grids import get_grid
from espnet_dq.quant.prepare import assign_grids, quantize

NAME = "decoder.blocks.0.mlp.0.weight"


@given(st.integers(2, 8), st.integers(1, 40), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_bits_are_laid_out_as_documented(bits, count, random):
    values = [random.randrange(-(2 ** (bits - 1)), 2 ** (bits - 1)) for _ in range(count)]
    data = pack(torch.tensor(values, dtype=torch.int8), bits)
    number = sum((v + 2 ** (bits - 1)) << (i * bits) for i, v in enumerate(values))
    assert data.numpy().tobytes() == number.to_bytes(-(-count * bits // 8), "little")
    assert packed.unpack(data, bits, (count,)).tolist() == values


def test_long_tensors_are_packed_in_pieces(monkeypatch):
    values = torch.randint(-3, 4, (7, 31), dtype=torch.int8)
    whole = pack(values, 3)
    for module in ("read", "write"):
        monkeypatch.setattr(f"espnet_dq.formats.packed.{module}.CHUNK", 16)
    assert torch.equal(pack(values, 3), whole)
    assert torch.equal(packed.unpack(whole, 3, (7, 31)), values)


@pytest.mark.slow
@pytest.mark.parametrize(
    "grid",
    [
        "uniform2",
        "uniform3",
        "uniform4",
        "ct2_int8",
        "onnx_int8",
        "ggml_q5_0",
        "ggml_q8_0",
        "ggml_q4_1",
    ],
)
def test_the_very_weights_come_back(toy, tmp_path, grid, capsys):
    path, checkpoint = tmp_path / "toy.safetensors", tmp_path / "toy.pt"
    save_pt(checkpoint, toy, dtype=torch.float32)
    options = ["--to", "packed", "--grid", grid, "--out", str(path)]
    assert convert(["--from", str(checkpoint), *options]) == 0
    assert detect.detect(path) == "packed"
    assert path.stat().st_mode == checkpoint.stat().st_mode
    names = assign_grids(toy.dims, grid)
    for name, tensor in detect.load(path).state.items():
        expected = get_grid(grid).fake(toy.state[name]) if name in names else toy.state[name].half()
        assert torch.equal(tensor, expected), name
    assert verify([str(path), "--against", str(checkpoint), "--grid", grid]) == 0
    values = sum(toy.state[n].numel() for n in names)
    stored = sum(v.numel() for n, v in load_file(path).items() if n.endswith(".integers"))
    assert values * get_grid(grid).bits <= stored * 8 < values * get_grid(grid).bits * 1.001
    capsys.readouterr()


@pytest.fixture
def mixed(toy, tmp_path):
    """A file on several grids."""
    grids = dict.fromkeys(assign_grids(toy.dims, "ct2_int8"), "uniform3_g32")
    grids |= {NAME: "uniform4", "decoder.token_embedding.weight": "ggml_q4_0"}
    grids["encoder.conv1.weight"] = "ct2_int8"
    path = tmp_path / "mixed.safetensors"
    save_packed(path, toy, quantize(toy.state, grids))
    return path, grids


def test_grids_may_be_mixed(mixed, toy):
    path, grids = mixed
    state = detect.load(path).state
    for name, grid in grids.items():
        assert torch.equal(state[name], get_grid(grid).fake(toy.state[name])), name


@pytest.mark.slow
def test_each_changed_bit_is_seen(toy, tmp_path, capsys):
    path, checkpoint = tmp_path / "toy.safetensors", tmp_path / "toy.pt"
    save_pt(checkpoint, toy, dtype=torch.float32)
    quantized = quantize(toy.state, assign_grids(toy.dims, "uniform5"))
    write("packed", path, toy, quantized, "float16")
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + header])
    for name in (f"{NAME}.integers", f"{NAME}.scale", "decoder.ln.bias"):
        broken = bytearray(data)
        broken[8 + header + table[name]["data_offsets"][0] + 1] ^= 4
        path.write_bytes(broken)
        assert verify([str(path), "--against", str(checkpoint), "--grid", "uniform5"]) == 1
    capsys.readouterr()


def change(path, edit):
    """Rewrite a file with `edit(tensors, metadata)` applied."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as f:
        metadata = dict(f.metadata())
    edit(tensors, metadata)
    save_file(tensors, path, metadata)


def put(key, value):
    return lambda tensors, metadata: metadata.__setitem__(key, value)


def tensor(key, value):
    return lambda tensors, metadata: tensors.__setitem__(key, value)


@pytest.mark.parametrize(
    "edit,message",
    [
        (put("version", "2"), "version 1"),
        (put("grids", "["), "grids: not JSON"),
        (put("grids", "[]"), "grids is not a table"),
        (put("grids", "{}"), "is missing"),
        (put("dims", '{"n_mels": 80}'), "dims needs exactly"),
        (lambda t, m: t.pop(f"{NAME}.scale"), f"{NAME}.scale is missing"),
        (lambda t, m: m.update(grids=m["grids"].replace("uniform4", "uniform9")), "9 bits"),
        (lambda t, m: m.update(grids=m["grids"].replace("conv1", "conv9")), "conv1.weight is miss"),
        (lambda t, m: m.update(dims=m["dims"].replace("51865", "1000000")), "token_embedding"),
        (tensor("more", torch.zeros(1)), "unknown tensor more"),
        (tensor(f"{NAME}.scale", torch.full((256, 1), np.nan)), "all finite"),
        (tensor(f"{NAME}.integers", torch.zeros(5, dtype=torch.uint8)), "is not 8192 bytes"),
        (tensor(f"{NAME}.integers", torch.zeros(8192, dtype=torch.uint8)), "not on grid"),
        (tensor("decoder.ln.bias", torch.zeros(3)), "decoder.ln.bias is"),
    ],
)
def test_bad_files(mixed, edit, message):
    path, _ = mixed
    change(path, edit)
    with pytest.raises(InputError, match=message) as caught:
        packed.load(path)
    assert str(path) in str(caught.value)


def test_truncated(mixed):
    path, _ = mixed
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(InputError):
            packed.load(path)
