"""A toy Whisper in ONNX, quantized by ONNX Runtime itself, as the published small was."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantType, quantize_dynamic

from espnet_dq.api.checkpoint import _kind
from espnet_dq.errors import InputError
from espnet_dq.formats import integers
from espnet_dq.formats.hf.names import DIMS
from espnet_dq.formats.onnx_hf import read as reader

SIDES = ("encoder", "decoder")
PARTS = {
    "attn": "self_attn",
    "cross_attn": "encoder_attn",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp_ln": "final_layer_norm",
    "blocks": "layers",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "token_embedding": "embed_tokens",
    "ln_post": "layer_norm",
    "ln": "layer_norm",
}


def hugging_face(name):
    """The inverse of `openai_name`, written from Hugging Face's side."""
    name = name.replace("mlp.0", "fc1").replace("mlp.2", "fc2")
    name = name.replace("positional_embedding", "embed_positions.weight")
    return ".".join(PARTS.get(part, part) for part in name.split("."))


def write_side(path, weights, side):
    """One model with a node for each tensor; the decoder's nodes lie in a branch, as merged."""
    merged = "_merged_0" if side == "decoder" else ""
    prefix = "model.decoder." if side == "decoder" else ""
    tensors, nodes, outputs = [], [], []
    mine = {k: v for k, v in weights.state.items() if k.startswith(side)}
    for i, (name, tensor) in enumerate(mine.items()):
        array = tensor.numpy()
        plain = hugging_face(name.removeprefix(f"{side}."))
        stored = prefix + plain + merged
        layer = "/" + (prefix + plain.removesuffix(".weight")).replace("layers.", "layers#")
        layer = layer.replace(".", "/").replace("layers#", "layers.")
        matrix = array.ndim == 2 and "embed" not in plain
        if matrix:
            array, stored = np.ascontiguousarray(array.T), f"onnx::MatMul_{i}{merged}"
        tensors.append(numpy_helper.from_array(array, stored))
        result = f"out_{i}"
        if matrix:
            kind, inputs = "MatMul", [f"x{len(array)}", stored]
        elif array.ndim == 3:
            kind, inputs = "Conv", [f"c{array.shape[1]}", stored]
        elif "embed_tokens" in plain:
            kind, inputs = "Gather", [stored, "ids"]
        else:
            kind, inputs = "Identity", [stored]
        nodes.append(helper.make_node(kind, inputs, [result], f"{layer}/{kind}"))
        outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, None))
    info = helper.make_tensor_value_info
    d = weights.dims.n_audio_state
    inputs = [
        info(f"x{d}", TensorProto.FLOAT, [1, d]),
        info(f"x{4 * d}", TensorProto.FLOAT, [1, 4 * d]),
        info("c80", TensorProto.FLOAT, [1, 80, 9]),
        info(f"c{d}", TensorProto.FLOAT, [1, d, 9]),
        info("ids", TensorProto.INT64, [1]),
    ]
    if side == "decoder":
        branch = helper.make_graph(nodes, "branch", [], outputs)
        inputs.append(info("use_cache", TensorProto.BOOL, [1]))
        names = [output.name + "_if" for output in outputs]
        nodes = [
            helper.make_node("If", ["use_cache"], names, then_branch=branch, else_branch=branch)
        ]
        outputs = [info(name, TensorProto.FLOAT, None) for name in names]
    graph = helper.make_graph(nodes, side, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    onnx.save(model, path.with_suffix(".float"))
    quantize_dynamic(
        path.with_suffix(".float"),
        path,
        weight_type=QuantType.QUInt8 if side == "encoder" else QuantType.QInt8,
        extra_options={"EnableSubgraph": True},
    )


@pytest.fixture(scope="module")
def pair(toy_weights, tmp_path_factory):
    """Folder with config.json and onnx/, and the toy weights in it."""
    toy = toy_weights()
    # A small embedding: ONNX Runtime's quantizer is slow.
    toy.dims = replace(toy.dims, n_vocab=96)
    embedding = "decoder.token_embedding.weight"
    toy.state[embedding] = toy.state[embedding][:96].clone()
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "onnx").mkdir()
    config = {v: getattr(toy.dims, k) for k, v in DIMS.items()}
    (folder / "config.json").write_text(json.dumps(config))
    for side in SIDES:
        write_side(folder / "onnx" / reader.FILES[side], toy, side)
    return folder, toy


def test_values_are_the_quantizers(pair):
    """Within half a step of each tensor; floats exactly; all names found."""
    folder, toy = pair
    loaded = reader.load(folder)
    assert loaded.dims == toy.dims
    on_grid = 0
    for name, tensor in toy.state.items():
        error = (loaded.state[name] - tensor).abs().max()
        if tensor.dim() == 1 or "positional" in name:
            assert error == 0, name
        else:
            step = 2 * tensor.abs().max() / 254
            assert 0 < error < 0.6 * step, name
            on_grid += 1
    assert on_grid == 2 * 6 + 3 * 10 + 3
    assert integers.load(folder) == {}  # a grid that is none of ours
    weights = sum(tensor.numel() for tensor in toy.state.values())
    # What a teacher is said to be; a toy has many biases and LayerNorms in float.
    assert re.fullmatch(r"onnx_hf, quantized: \d+ bits a weight", _kind(folder, weights))


def test_dequantizes_as_onnx_does(pair):
    """Against the reference implementation of DequantizeLinear, bit for bit."""
    folder, _ = pair
    loaded = reader.load(folder).state
    graph = onnx.load(folder / "onnx" / reader.FILES["encoder"]).graph
    stored = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    node = helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])
    values = ReferenceEvaluator(node).run(
        None,
        {
            "q": stored["conv2.weight_quantized"],
            "s": stored["conv2.weight_scale"],
            "z": stored["conv2.weight_zero_point"],
        },
    )[0]
    assert torch.equal(loaded["encoder.conv2.weight"], torch.from_numpy(values))


def _copy(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("side", SIDES)
def test_truncated(pair, tmp_path, side, share):
    folder = _copy(pair[0], tmp_path)
    path = folder / "onnx" / reader.FILES[side]
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match=r"m/onnx"):
        reader.load(folder)


def test_damaged_models(pair, tmp_path):
    folder = _copy(pair[0], tmp_path)
    path = folder / "onnx" / reader.FILES["encoder"]
    original = onnx.load(path)

    def broken(change):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        change({t.name: t for t in model.graph.initializer}, model.graph)
        path.write_bytes(model.SerializeToString())

    def shorten(tensors, _):
        tensors["conv2.weight_quantized"].raw_data = b"123"

    def enlarge(tensors, _):
        tensors["conv2.weight_quantized"].dims[0] = 1 << 40

    def move_out(tensors, _):
        tensors["conv1.bias"].data_location = TensorProto.EXTERNAL

    def drop_scale(tensors, graph):
        graph.initializer.remove(tensors["conv2.weight_scale"])

    def rename(tensors, _):
        tensors["conv1.bias"].name = "conv1.biast"

    def reshape(tensors, _):
        tensors["conv1.bias"].dims[:] = [2, 32]

    def garble(tensors, _):
        tensors["conv1.bias"].name = "conv1.biaX"  # X becomes a byte below

    def strings(tensors, _):
        tensors["conv2.weight_scale"].data_type = TensorProto.STRING

    def many_zeros(tensors, _):
        """(n, 1) minus (1, m) would be (n, m), however large."""
        tensors["conv2.weight_zero_point"].CopyFrom(
            numpy_helper.from_array(np.zeros((1, 99), np.uint8), "conv2.weight_zero_point")
        )

    def short_node(_, graph):
        node = next(n for n in graph.node if n.op_type == "ConvInteger")
        node.name, node.input[:] = "/conv2/Conv", node.input[:1]

    def twice(_, graph):
        weight = np.ones((64, 64, 3), np.float32)
        graph.initializer.append(numpy_helper.from_array(weight, "conv2.weight"))

    changes = (shorten, enlarge, move_out, drop_scale, rename, reshape, garble, strings, many_zeros)
    for change in (*changes, short_node, twice):
        broken(change)
        path.write_bytes(path.read_bytes().replace(b"conv1.biaX", b"conv1.bia\xff"))
        with pytest.raises(InputError, match=rf"{path}.*conv[12]"):
            reader.load(folder)


def test_wrong_config(pair, tmp_path):
    folder = _copy(pair[0], tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for content, message in (
        ("{", "not JSON"),
        ("[]", "not a table"),
        ("{}", "num_mel_bins is missing"),
        (json.dumps(config | {"d_model": "big"}), "n_audio_state = 'big'"),
        (json.dumps(config | {"d_model": 128}), "has shape"),
        (json.dumps(config | {"decoder_layers": 4}), "is missing"),
        (json.dumps(config | {"decoder_layers": 2}), "is not a Whisper weight"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            reader.load(folder)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        reader.load(folder)
