"""Quantized ONNX pair of a Whisper, as ONNX Runtime's dynamic quantizer writes it.

`encoder_model_quantized.onnx` and `decoder_model_merged_quantized.onnx` hold Hugging Face's
model. Floats keep their names; the quantized matrices only have numbers, so what they are is
read from the nodes that use them (`/layers.0/self_attn/q_proj/MatMul_quant`). The values are
`(q - zero point) * scale`, one scale a tensor.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from os.path import isdir
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

from espnet_dq.errors import InputError
from espnet_dq.formats.hf.names import openai_name, read_dims, read_json
from espnet_dq.formats.hf.vocabulary import read_generation, read_vocabulary
from espnet_dq.formats.onnx.read import read_model, text
from espnet_dq.formats.onnx_hf import FILES
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights

_MERGED = re.compile(r"_merged_\d+$")  # what joining the two decoders appends to a name
_FLOAT = (TensorProto.FLOAT,)
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8)


def load(folder: Path | str) -> Weights:
    """Read the pair in `folder` (or its `onnx` folder), with `config.json` for the dimensions.

    Returns float32 weights: the quantized ones dequantized, [in, out] turned to [out, in].

    Raises:
        InputError: a file is missing or damaged, or does not hold the Whisper of config.json.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = read_json(path)
    dims = read_dims(config, path)
    models = folder / "onnx" if isdir(folder / "onnx") else folder
    shapes, state = weight_shapes(dims), {}
    for side, file in FILES.items():
        for name, values in _Model(models / file, side, shapes).weights():
            if name in state:
                raise InputError(f"{models / file}: {name} is stored twice")
            state[name] = torch.from_numpy(np.array(values, order="C"))
    weights = Weights(dims, state).check(str(models))
    found, order = read_vocabulary(dims, folder)
    generation = read_generation(config, folder, found, order, dims.n_vocab)
    return replace(weights, dims=found, generation=generation).arranged(order)


class _Model:
    """One side of the pair. Names and shapes are checked before anything is dequantized."""

    def __init__(self, path: Path, side: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path, self.side, self.shapes = path, side, shapes
        self.graph = read_model(path).graph
        self.tensors = {text(tensor.name, path): tensor for tensor in self.graph.initializer}

    def weights(self) -> Iterator[tuple[str, np.ndarray]]:
        """openai-whisper's name, one of `shapes`, and float32 values of each weight."""
        for stored, tensor in self.tensors.items():
            name = _MERGED.sub("", stored).removeprefix("model.").removeprefix(f"{self.side}.")
            if tensor.data_type == TensorProto.FLOAT and tensor.dims and "::" not in stored:
                yield self.checked(name, stored, self.values(stored, _FLOAT))
        layers = sorted(_quantized(self.graph, self.side, self.path))
        if len({stored for _, stored, _ in layers}) < len(layers):
            raise InputError(f"{self.path}: one matrix is the weight of two layers")
        for layer, stored, transposed in layers:
            q = self.values(f"{stored}_quantized", _INTEGERS)
            name, q = self.checked(f"{layer}.weight", stored, q.T if transposed else q)
            zero = self.number(f"{stored}_zero_point", _INTEGERS)
            scale = self.number(f"{stored}_scale", _FLOAT)
            with np.errstate(all="ignore"):  # checked with all others
                values = (q - zero) * scale
            yield name, values

    def values(self, stored: str, types: tuple[int, ...]) -> np.ndarray:
        """A tensor as it is stored, which must have one of these types."""
        if stored not in self.tensors:
            raise InputError(f"{self.path}: {stored} is missing")
        tensor = self.tensors[stored]
        if tensor.data_location != TensorProto.DEFAULT:
            raise InputError(f"{self.path}: {stored} lies in another file, which is not read")
        if tensor.data_type not in types:
            raise InputError(f"{self.path}: {stored} has type {tensor.data_type}, not in {types}")
        try:
            return numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as e:
            raise InputError(f"{self.path}: {stored} is damaged ({e})") from e

    def number(self, stored: str, types: tuple[int, ...]) -> np.float32:
        """A tensor of one number."""
        array = self.values(stored, types)
        if array.size != 1:
            raise InputError(f"{self.path}: {stored} has shape {array.shape}, not one number")
        return np.float32(array.item())

    def checked(self, theirs: str, stored: str, array: np.ndarray) -> tuple[str, np.ndarray]:
        """openai-whisper's name for Hugging Face's, and the array, of that weight's shape."""
        name = openai_name(f"{self.side}.{theirs}")
        if name not in self.shapes:
            raise InputError(f"{self.path}: {stored}: {name} is not a Whisper weight")
        if array.shape != self.shapes[name]:
            raise InputError(
                f"{self.path}: {stored} has shape {array.shape}, expected {self.shapes[name]}"
            )
        return name, array


def _quantized(graph: onnx.GraphProto, side: str, path: Path) -> set[tuple[str, str, bool]]:
    """(layer, name of its quantized weight, whether it is [in, out]), in all branches."""
    found = set()
    for node in graph.node:
        for attribute in node.attribute:
            found |= _quantized(attribute.g, side, path)
        name = text(node.name, path).removeprefix("/").removeprefix(f"model/{side}/").split("/")
        if node.op_type in ("MatMulInteger", "ConvInteger"):
            at, matrix = 1, node.op_type == "MatMulInteger"
        elif node.op_type == "Gather" and name[0] == "embed_tokens":
            at, matrix = 0, False
        else:
            continue
        if len(node.input) <= at:
            raise InputError(f"{path}: node {'/'.join(name)} has no weight")
        weight = text(node.input[at], path)
        if weight.endswith("_quantized"):  # not so when both factors are activations
            found.add((".".join(name[:-1]), weight.removesuffix("_quantized"), matrix))
    return found
