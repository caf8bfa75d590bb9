"""safetensors, CTranslate2, ggml and ONNX files that say something else than a model of ours."""

import json
import struct

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from safetensors.torch import load_file, save_file

from espnet_dq.errors import InputError
from espnet_dq.formats import detect, integers
from espnet_dq.formats.onnx import wire
from espnet_dq.formats.packed.read import read as read_packed
from espnet_dq.formats.write import write
from tests.formats.onnx_files import initializer

NAME = "decoder.blocks.0.mlp.0.weight"
HF_NAME = "model.decoder.layers.0.fc1.weight"
LN = "decoder.ln.weight"


@pytest.fixture(scope="session")
def models(toy_weights, toy_quantized, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for form in ("hf", "ggml", "onnx", "packed"):
        write(form, folder / form, toy_weights(), {}, "float16")
    write("ct2", folder / "ct2", toy_weights(), toy_quantized, "float16")
    write("packed", folder / "packed_int8", toy_weights(), toy_quantized, "float16")
    return folder


def refused(path, said, *, everywhere=True):
    for load in (detect.load, integers.load) if everywhere else (detect.load,):
        with pytest.raises(InputError, match=said) as caught:
            load(path)
        message = str(caught.value)
        assert "\n" not in message and str(path) in message and len(message) < 500


# safetensors


def header(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_header(path, head, values):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + values)


TENSORS = {
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "complex": lambda t: t.to(torch.complex64),
    "bool": lambda t: t > 0,
    "integers": lambda t: t.to(torch.int8),
    "bytes": lambda t: t.to(torch.uint8),
    "not a number": lambda t: t * torch.nan,
    "infinite": lambda t: t.float() * torch.inf,
    "no numbers": lambda t: t[:0],
    "one number": lambda t: t.sum(),
}


@pytest.mark.parametrize("kind", TENSORS)
@pytest.mark.parametrize("form", ["hf", "packed"])
def test_tensors_of_other_kinds(models, tmp_path, form, kind):
    name = HF_NAME if form == "hf" else NAME
    source = models / form / "model.safetensors" if form == "hf" else models / form
    metadata = header(source)[0].get("__metadata__")
    tensors = load_file(source)
    tensors[name] = TENSORS[kind](tensors[name]).contiguous()
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata)
    if form == "hf":
        for other in ("config.json", "tokenizer.json"):
            (tmp_path / other).symlink_to(models / "hf" / other)
    refused(tmp_path if form == "hf" else path, f"{name}|{NAME}", everywhere=False)


HEADERS = {
    "four bits": lambda h: h[NAME].update(dtype="F4"),
    "no type": lambda h: h[NAME].pop("dtype"),
    "another type": lambda h: h[NAME].update(dtype="X"),
    "negative shape": lambda h: h[NAME].update(shape=[-256, 64]),
    "huge shape": lambda h: h[NAME].update(shape=[1 << 62, 1 << 62]),
    "shape with a point": lambda h: h[NAME].update(shape=[256.5, 64]),
    "beyond the file": lambda h: h[NAME].update(data_offsets=[0, 1 << 60]),
    "backwards": lambda h: h[NAME].update(data_offsets=h[NAME]["data_offsets"][::-1]),
    "a number": lambda h: h.update({NAME: 3}),
    "metadata of numbers": lambda h: h.update(__metadata__={"format": 3}),
    "no metadata": lambda h: h.pop("__metadata__"),
    "grids of words": lambda h: h["__metadata__"].update(grids="x"),
    "grids as a list": lambda h: h["__metadata__"].update(grids="[]"),
    "grids as a number": lambda h: h["__metadata__"].update(grids="3"),
    "a grid that is a list": lambda h: h["__metadata__"].update(grids=f'{{"{NAME}": []}}'),
    "a grid that is a number": lambda h: h["__metadata__"].update(grids=f'{{"{NAME}": 8}}'),
    "a grid of nobody": lambda h: h["__metadata__"].update(grids=f'{{"{NAME}": "int0"}}'),
    "a grid twice": lambda h: h["__metadata__"].update(grids='{"a": "x", "a": "y"}'),
    "deep grids": lambda h: h["__metadata__"].update(grids="[" * 100_000),
    "dims as a list": lambda h: h["__metadata__"].update(dims="[]"),
    "dims of nothing": lambda h: h["__metadata__"].update(dims="{}"),
}
DIMS = {
    "NaN": "not JSON",
    "Infinity": "not JSON",
    "true": "n_audio_head = True",
    "null": "n_audio_head = None",
    "2.0": "n_audio_head = 2.0",
    "2e0": "n_audio_head = 2.0",
    "1e999": "n_audio_head = inf",
    '"2"': "n_audio_head = '2'",
    "-2": "n_audio_head = -2",
    "0": "n_audio_head = 0",
    "[2]": "n_audio_head = a list",
    "9" * 40: "n_audio_head = a huge number",
    "9" * 41: "not JSON .a number of 41 digits",
    "9" * 5000: "not JSON",
}


@pytest.mark.parametrize("kind", HEADERS)
def test_headers_of_packed_files(models, tmp_path, kind):
    head, values = header(models / "packed")
    HEADERS[kind](head)
    put_header(tmp_path / "x", head, values)
    refused(tmp_path / "x", "x: ")


@pytest.mark.parametrize("value", DIMS)
def test_dimensions_of_packed_files(models, tmp_path, value):
    head, values = header(models / "packed")
    dims = json.loads(head["__metadata__"]["dims"]) | {"n_audio_head": "@"}
    head["__metadata__"]["dims"] = json.dumps(dims).replace('"@"', value)
    put_header(tmp_path / "x", head, values)
    refused(tmp_path / "x", f"x: .*{DIMS[value]}")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"{" * 200_000, "not JSON"),
        (b'{"a": 1, "a": 2}', "a is there twice"),
        (b"{}", "not espnet_dq.packed"),
        (b"{", "no header"),
        (b'{"\xff": 1}', "not JSON"),
        (b"{" + b" " * (17 << 20), "no header"),
    ],
)
def test_headers_that_are_none(tmp_path, head, said):
    put_header(tmp_path / "x", head, b"")
    refused(tmp_path / "x", f"x: .*{said}")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 3e38])
def test_scales_that_are_no_numbers(models, tmp_path, value):
    head = header(models / "packed_int8")[0]
    tensors = load_file(models / "packed_int8")
    assert read_packed(models / "packed_int8").quantized[NAME].grid == "ct2_int8"
    key = f"{NAME}.scale"
    tensors[key][3] = 1 / value if value == 3e38 else value  # of ct2_int8 it divides
    save_file(tensors, tmp_path / "x", head["__metadata__"])
    refused(tmp_path / "x", NAME, everywhere=value != 3e38)


# CTranslate2


def variables(path):
    """[name, shape, type, data] of each variable, and what stands before and behind them."""
    data = path.read_bytes()
    at = 4 + 2 + struct.unpack_from("<H", data, 4)[0] + 4
    (count,), start, found = struct.unpack_from("<I", data, at), at, []
    at += 4
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name, at = data[at + 2 : at + 1 + length].decode(), at + 2 + length
        rank, at = data[at], at + 1
        shape, at = list(struct.unpack_from(f"<{rank}I", data, at)), at + 4 * rank
        kind, size = struct.unpack_from("<BI", data, at)
        found.append([name, shape, kind, data[at + 5 : at + 5 + size]])
        at += 5 + size
    return data[:start], found, data[at:]


def joined(head, found, tail):
    parts = [head, struct.pack("<I", len(found))]
    for name, shape, kind, data in found:
        parts.append(struct.pack("<H", len(name) + 1) + name.encode() + b"\0")
        parts.append(struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, kind, len(data)))
        parts.append(data)
    return b"".join([*parts, tail])


def heads(kind, layout, value):
    return "encoder/num_heads", [[], kind, struct.pack("<" + layout, value)], "num_heads|n_audio_"


WEIGHT = "decoder/layer_0/ffn/linear_0/weight"
VARIABLES = {
    "heads are 0": heads(3, "i", 0),
    "negative heads": heads(3, "i", -2),
    "many heads": heads(3, "i", 1 << 30),
    "heads are no number": heads(0, "f", float("nan")),
    "infinite heads": heads(0, "f", float("inf")),
    "heads with a point": heads(0, "f", 2.0),
    "half heads": heads(4, "e", 2.0),
    "bfloat16 heads": (heads(5, "H", 0x4000)),
    "heads in a list": ("encoder/num_heads", [[1], 3, struct.pack("<i", 2)], "num_heads"),
    "no rows": (WEIGHT, [[0, 64], 1, b""], "decoder"),
    "no columns": (WEIGHT, [[256, 0], 1, b""], "decoder"),
    "another rank": (WEIGHT, [[256 * 64], 1, bytes(256 * 64)], "decoder"),
    "another type": (WEIGHT, [[256, 64], 3, bytes(256 * 64 * 4)], "int32"),
    "an unknown type": (WEIGHT, [[256, 64], 77, bytes(256 * 64)], "unknown type"),
    "a huge size": (WEIGHT, [[1 << 31, 1 << 31, 1 << 31], 1, b""], "bytes for shape"),
    "scales below 0": (f"{WEIGHT}_scale", [[256], 0, struct.pack("<256f", *[-1] * 256)], "scale"),
    "scales of 0": (f"{WEIGHT}_scale", [[256], 0, bytes(1024)], "scale"),
    "scales are no numbers": (f"{WEIGHT}_scale", [[256], 0, b"\xff" * 1024], "scale"),
    "tiny scales": (
        f"{WEIGHT}_scale",
        [[256], 0, struct.pack("<256I", *[1] * 256)],
        "finite|bottom|scale",
    ),
    "no numbers": (
        "decoder/layer_norm/gamma",
        [[64], 4, b"\xff" * 128],
        "decoder.ln.weight.*finite",
    ),
    "no mels": ("encoder/conv1/weight", [[64, 0, 3], 4, b""], "n_mels = 0|scales"),
    "no positions": ("encoder/position_encodings/encodings", [[0, 64], 4, b""], "n_audio_ctx = 0"),
    "no vocabulary": ("decoder/embeddings/weight", [[0, 64], 1, b""], "n_vocab = 0|each row"),
}


@pytest.mark.parametrize("kind", VARIABLES)
def test_variables_of_ctranslate2(models, tmp_path, kind):
    head, found, tail = variables(models / "ct2/model.bin")
    assert joined(head, found, tail) == (models / "ct2/model.bin").read_bytes()
    name, changed, said = VARIABLES[kind]
    (variable,) = [v for v in found if v[0] == name]
    variable[1:] = changed
    (tmp_path / "model.bin").write_bytes(joined(head, found, tail))
    everywhere = kind not in ("tiny scales", "no numbers")  # integers.load reads no floats
    refused(tmp_path, f"model.bin: .*({said})|{NAME}", everywhere=everywhere)


def test_aliases_take_no_memory(models, tmp_path, toy_weights, toy_quantized):
    """Names that stand for one variable are one tensor in memory."""
    weights, quantized = toy_weights(), dict(toy_quantized)
    first, second = (f"decoder.blocks.{i}.mlp.0.weight" for i in (0, 1))
    quantized[second] = quantized[first]
    write("ct2", tmp_path / "m", weights, quantized, "float16")
    state = detect.load(tmp_path / "m").state
    assert state[first].data_ptr() == state[second].data_ptr()
    assert state[first].data_ptr() != state[f"decoder.blocks.2.{first[17:]}"].data_ptr()


# ggml


@pytest.mark.parametrize("value", [0, -1, 1 << 30, -(1 << 31)])
@pytest.mark.parametrize("number", range(10))
def test_numbers_of_ggml(models, tmp_path, number, value):
    data = bytearray((models / "ggml").read_bytes())
    struct.pack_into("<i", data, 4 + 4 * number, value)
    (tmp_path / "x.bin").write_bytes(data)
    refused(tmp_path / "x.bin", r"x\.bin: n_")


@pytest.mark.parametrize("offset", [48, 52, 56 + 4 * 80 * 201])  # filters, tokens
@pytest.mark.parametrize("value", [-1, 1 << 30])
def test_counts_of_ggml(models, tmp_path, offset, value):
    data = bytearray((models / "ggml").read_bytes())
    struct.pack_into("<i", data, offset, value)
    (tmp_path / "x.bin").write_bytes(data)
    refused(tmp_path / "x.bin", r"x\.bin: (truncated|\d+ tokens)")


@pytest.mark.parametrize("value", [b"\xff\xff\xff\xff", b"\0\0\x80\x7f"])
def test_values_of_ggml_that_are_no_numbers(models, tmp_path, value):
    data = bytearray((models / "ggml").read_bytes())
    at = data.index(LN.encode()) + len(LN)
    data[at : at + 4] = value
    (tmp_path / "x.bin").write_bytes(data)
    refused(tmp_path / "x.bin", f"{LN} .*not all finite", everywhere=False)


# ONNX


def external(model):
    tensor = initializer(model, LN)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")


def sparse(model):
    tensor = initializer(model, LN)
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)
    model.graph.initializer.remove(tensor)


def retyped(kind):
    def change(model):
        initializer(model, LN).data_type = kind

    return change


def reshaped(*dims):
    def change(model):
        initializer(model, LN).dims[:] = dims

    return change


def strings(model):
    tensor = initializer(model, LN)
    tensor.ClearField("raw_data")
    tensor.data_type = TensorProto.STRING
    tensor.string_data.extend([b"x"] * 64)


MODELS = {
    "external": external,
    "sparse": sparse,
    "strings": strings,
    "float8": retyped(TensorProto.FLOAT8E4M3FN),
    "four bits": retyped(TensorProto.INT4),
    "double": retyped(TensorProto.DOUBLE),
    "bfloat16": retyped(TensorProto.BFLOAT16),
    "no type": retyped(0),
    "type of nobody": retyped(99),
    "huge": reshaped(1 << 40, 1 << 40),
    "negative": reshaped(-64),
    "no numbers": reshaped(0),
    "no shape": reshaped(),
    "no data": lambda m: initializer(m, LN).ClearField("raw_data"),
    "numbers elsewhere": lambda m: (
        initializer(m, LN).ClearField("raw_data")
        or initializer(m, LN).float_data.extend([0.0] * 64)
    ),
    "no name": lambda m: initializer(m, LN).ClearField("name"),
    "not a number": lambda m: setattr(
        initializer(m, LN), "raw_data", np.full(64, np.nan, np.float16).tobytes()
    ),
    "twice": lambda m: m.graph.initializer.add().CopyFrom(initializer(m, LN)),
    "unknown": lambda m: m.graph.initializer.add(name="x", data_type=1, dims=[0]),
    "nothing": lambda m: m.graph.ClearField("initializer"),
    "no nodes": lambda m: m.graph.ClearField("node"),
    "no graph": lambda m: m.ClearField("graph"),
    # More of the graph, whose parts protobuf joins: half a million empty nodes.
    "much structure": lambda m: b"\x3a\x80\x80\x40" + b"\x0a\0" * (1 << 19),
    "long words": lambda m: setattr(m, "doc_string", "x" * (9 << 20)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_models_of_onnx(models, tmp_path, kind, monkeypatch):
    if kind == "much structure":  # which takes ten seconds to count up to the limit
        monkeypatch.setattr(wire, "LARGEST", 1 << 19)
    model = onnx.load(models / "onnx/decoder.onnx", load_external_data=False)
    more = MODELS[kind](model)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/decoder.onnx").write_bytes(
        model.SerializeToString() + (more if isinstance(more, bytes) else b"")
    )
    (tmp_path / "m/encoder.onnx").symlink_to(models / "onnx/encoder.onnx")
    refused(tmp_path / "m", "/m", everywhere=kind != "not a number")


@pytest.mark.parametrize("value", ["", "-1", "0", "2.0", "NaN", "٢", "1" * 5000, "1e3", "²", "\n2"])
def test_dimensions_of_onnx(models, tmp_path, value):
    model = onnx.load(models / "onnx/encoder.onnx", load_external_data=False)
    next(p for p in model.metadata_props if p.key == "n_audio_head").value = value
    (tmp_path / "m").mkdir()
    (tmp_path / "m/encoder.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "m/decoder.onnx").symlink_to(models / "onnx/decoder.onnx")
    refused(tmp_path / "m", r"encoder\.onnx: .*n_audio_head")


def test_deep_nesting_in_onnx(models, tmp_path):
    """Graphs in nodes in graphs: protobuf has a limit, and its error is one line."""
    inner = b""
    for _ in range(5000):
        inner = b"\x32" + size(inner) + inner  # GraphProto g of AttributeProto
        inner = b"\x2a" + size(inner) + inner  # attribute of NodeProto
        inner = b"\x0a" + size(inner) + inner  # node of GraphProto
    (tmp_path / "m").mkdir()
    (tmp_path / "m/encoder.onnx").write_bytes(b"\x3a" + size(inner) + inner)
    (tmp_path / "m/decoder.onnx").symlink_to(models / "onnx/decoder.onnx")
    refused(tmp_path / "m", "not an ONNX model")


def size(data):
    number, out = len(data), bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])
