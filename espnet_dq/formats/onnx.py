"""Quantized ONNX pair of a Whisper, as ONNX Runtime's dynamic quantizer writes it.

`encoder_model_quantized.onnx` and `decoder_model_merged_quantized.onnx` hold Hugging Face's
model. Floats keep their names; the quantized matrices only have numbers, so what they are is
read from the nodes that use them (`/layers.0/self_attn/q_proj/MatMul_quant`). The values are
`(q - zero point) * scale`, one scale a tensor.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper

from espnet_dq.errors import InputError
from espnet_dq.formats import onnx_reader
from espnet_dq.formats.hf_names import openai_name, read_dims, read_json
from espnet_dq.formats.weights import Weights

FILES = {
    "encoder": "encoder_model_quantized.onnx",
    "decoder": "decoder_model_merged_quantized.onnx",
}
_MERGED = re.compile(r"_merged_\d+$")  # what joining the two decoders appends to a name


def load(folder: Path | str) -> Weights:
    """Read the pair in `folder` (or its `onnx` folder), with `config.json` for the dimensions.

    What `onnx_writer` wrote is read by `onnx_reader`.

    Returns float32 weights: the quantized ones dequantized, [in, out] turned to [out, in].

    Raises:
        InputError: a file is missing or damaged, or does not hold the Whisper of config.json.
    """
    folder = Path(folder)
    if (folder / onnx_reader.FILES[0]).is_file():
        return onnx_reader.load(folder)
    path = folder / "config.json"
    dims = read_dims(read_json(path), path)
    models = folder / "onnx" if (folder / "onnx").is_dir() else folder
    state: dict[str, torch.Tensor] = {}
    for side, file in FILES.items():
        path = models / file
        for name, values in _tensors(path, side):
            state[openai_name(name)] = torch.from_numpy(np.array(values, order="C"))
    return Weights(dims, state).check(str(models))


def _tensors(path: Path, side: str) -> Iterator[tuple[str, np.ndarray]]:
    """Hugging Face's name, from the side on, and float32 values of each tensor in a model."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (DecodeError, ValueError) as e:
        raise InputError(f"{path}: not an ONNX model, or truncated") from e
    if not graph.node:
        raise InputError(f"{path}: not an ONNX model, or truncated")
    tensors = {tensor.name: tensor for tensor in graph.initializer}

    def values(name: str) -> np.ndarray:
        if name not in tensors:
            raise InputError(f"{path}: {name} is missing")
        if tensors[name].data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{path}: {name} lies in another file, which is not read")
        try:
            return numpy_helper.to_array(tensors[name])
        except (ValueError, TypeError) as e:
            raise InputError(f"{path}: {name} is damaged ({e})") from e

    for name, tensor in tensors.items():
        plain = _MERGED.sub("", name).removeprefix("model.").removeprefix(f"{side}.")
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims and "::" not in name:
            yield f"{side}.{plain}", values(name)
    for layer, name, transposed in _quantized(graph, side):
        q = values(f"{name}_quantized").astype(np.float32)
        zero = values(f"{name}_zero_point").astype(np.float32)
        w = (q - zero) * values(f"{name}_scale")
        yield f"{side}.{layer}.weight", w.T if transposed else w


def _quantized(graph: onnx.GraphProto, side: str) -> set[tuple[str, str, bool]]:
    """(layer, name of its quantized weight, whether it is [in, out]), in all branches."""
    found = set()
    for node in graph.node:
        for attribute in node.attribute:
            found |= _quantized(attribute.g, side)
        path = node.name.removeprefix("/").removeprefix(f"model/{side}/").split("/")
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            weight, matrix = node.input[1], node.op_type == "MatMulInteger"
        elif node.op_type == "Gather" and path[0] == "embed_tokens":
            weight, matrix = node.input[0], False
        else:
            continue
        if weight.endswith("_quantized"):  # not so when both factors are activations
            found.add((".".join(path[:-1]), weight.removesuffix("_quantized"), matrix))
    return found
