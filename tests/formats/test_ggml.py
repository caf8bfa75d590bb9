import struct
import tracemalloc

import gguf
import numpy as np
import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats.ggml import read as ggml

F16 = gguf.GGMLQuantizationType.F16
F32 = gguf.GGMLQuantizationType.F32


def write(path, weights, kind, tokens=(b"!", b'"')):
    """A ggml file, as whisper.cpp's conversion script lays it out; returns where parts start."""
    d = weights.dims
    head = [d.n_vocab, d.n_audio_ctx, d.n_audio_state, d.n_audio_head, d.n_audio_layer]
    head += [d.n_text_ctx, d.n_text_state, d.n_text_head, d.n_text_layer, d.n_mels, 1]
    out = struct.pack("<I11i", 0x67676D6C, *head)
    boundaries = [0, 2, 4, 20, len(out)]
    out += struct.pack("<2i", 2, 3) + bytes(24)
    boundaries += [len(out) - 24, len(out)]
    out += struct.pack("<i", len(tokens))
    for token in tokens:
        boundaries.append(len(out))
        out += struct.pack("<i", len(token)) + token
    parts = [out]
    for name, tensor in weights.state.items():
        array = tensor.numpy()
        stored = kind if array.ndim == 2 and "positional" not in name else F32
        if array.ndim == 3:
            stored = F16
        if name.endswith("conv1.bias") or name.endswith("conv2.bias"):
            array = array[:, None]
        shape = array.shape
        if stored in (F16, F32):
            data = array.astype(np.float16 if stored == F16 else np.float32).tobytes()
        else:
            data = gguf.quantize(array, stored).tobytes()
        header = struct.pack("<3i", len(shape), len(name), int(stored))
        header += struct.pack(f"<{len(shape)}i", *reversed(shape)) + name.encode()
        start = sum(map(len, parts))
        if len(boundaries) < 40:
            boundaries += [start + 1, start + 12, start + len(header) - 1, start + len(header)]
        parts += [header, data]
    path.write_bytes(b"".join(parts))
    return boundaries


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"])
def test_values_are_those_of_the_gguf_package(toy, tmp_path, kind):
    kind = gguf.GGMLQuantizationType[kind]
    write(tmp_path / "toy.bin", toy, kind)
    loaded = ggml.load(tmp_path / "toy.bin")
    assert loaded.dims == toy.dims
    for name, tensor in toy.state.items():
        found = loaded.state[name]
        if tensor.dim() == 3:
            expected = tensor.half()
        elif tensor.dim() == 1 or "positional" in name or kind == F32:
            expected = tensor
        elif kind == F16:
            expected = tensor.half()
        else:
            expected = torch.from_numpy(
                gguf.dequantize(gguf.quantize(tensor.numpy(), kind), kind).reshape(tensor.shape)
            )
            assert not torch.equal(expected, tensor)
        assert found.dtype == expected.dtype and torch.equal(found, expected), name


def test_truncated_anywhere(toy, tmp_path):
    path = tmp_path / "toy.bin"
    boundaries = write(path, toy, F16)
    data = path.read_bytes()
    for size in [*boundaries, len(data) // 2, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(InputError, match=r"toy\.bin"):
            ggml.load(path)


def test_forged_sizes_take_no_memory(toy, tmp_path):
    """Any number of the headers set to an absurd value is an error, not an allocation."""
    path = tmp_path / "toy.bin"
    boundaries = write(path, toy, F16)
    data = bytearray(path.read_bytes()[: boundaries[12] + 64])
    offsets = [*range(0, 48, 4), 48, 52, 80, 84]
    offsets += list(range(boundaries[-4] - 1, boundaries[-4] + 19, 4))
    tracemalloc.start()
    try:
        for offset in offsets:
            for value in (-1, 0x7FFFFFFF, -(2**31), 1 << 20):
                broken = bytearray(data)
                broken[offset : offset + 4] = struct.pack("<i", value)
                path.write_bytes(broken)
                with pytest.raises(InputError, match=r"toy\.bin"):
                    ggml.load(path)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_wrong_tensors(toy, tmp_path):
    path = tmp_path / "toy.bin"
    write(path, toy, F16)
    data = path.read_bytes()
    name = b"decoder.ln.weight"
    for broken, message in (
        (data.replace(name, b"decoder.ln.wEight"), "not a Whisper weight"),
        (data.replace(name, b"\xff" * len(name)), "not UTF-8"),
        (data.replace(name, b"encoder.ln.weight", 1), "not a Whisper weight"),
        (data + data[-300:], "toy.bin"),
    ):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=message):
            ggml.load(path)
    del toy.state["decoder.ln.bias"]
    write(path, toy, F16)
    with pytest.raises(InputError, match=r"decoder\.ln\.bias is missing"):
        ggml.load(path)


def test_unknown_type_is_named(toy, tmp_path):
    path = tmp_path / "toy.bin"
    boundaries = write(path, toy, F16)
    data = bytearray(path.read_bytes())
    first = boundaries[9] - 1  # the first tensor's header
    assert struct.unpack_from("<i", data, first)[0] in (1, 2, 3)
    struct.pack_into("<i", data, first + 8, 99)
    path.write_bytes(data)
    with pytest.raises(InputError, match="has type 99"):
        ggml.load(path)
