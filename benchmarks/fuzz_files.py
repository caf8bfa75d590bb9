"""Sound toy files of each format that is read here, for `fuzz_loaders.py` to damage.

A folder's files are joined into one, so that one damage may hit any of them.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.formats import hf
from espnet_dq.formats.ct2 import read as ctranslate2
from espnet_dq.formats.ct2 import write as ctranslate2_writer
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.ggml import write as ggml_writer
from espnet_dq.formats.hf import read as huggingface
from espnet_dq.formats.hf import write as hf_write
from espnet_dq.formats.hf.names import hf_name
from espnet_dq.formats.onnx import read as onnx_reader
from espnet_dq.formats.onnx import write as onnx_writer
from espnet_dq.formats.onnx_hf import read as onnx_hf
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.formats.packed import read as packed
from espnet_dq.formats.packed.write import save as save_packed
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.quant.prepare import assign_grids
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import Weights

DIMS = ModelDimensions(80, 8, 32, 2, 1, 40, 8, 32, 2, 1)
SEPARATOR = b"\0--8<--\0"  # between the files of a folder
PARTS = {
    "hf": ("config.json", hf.FILE),
    "hf_index": ("config.json", hf.INDEX, "one.safetensors", "two.safetensors"),
    "onnx": onnx_reader.FILES,
    "onnx_hf": ("config.json", *onnx_hf.FILES.values()),
}
GRIDS = {  # that a format's toys are on
    "openai": ("none",),
    "ggml": ("none", "ggml_q5_0", "ggml_q8_0"),
    "ct2": ("none", "ct2_int8"),
    "packed": ("none", "uniform3", "ggml_q4_0"),
    "hf": ("none",),
    "hf_index": ("none",),  # a model in several files
    "onnx": ("none", "onnx_int8", "ggml_q8_0", "ggml_q4_0"),
    "onnx_hf": ("none",),  # a tensor's scale is its own there, not a grid of ours
}


def _folder(form: str, module: ModuleType) -> Callable[[Path], Weights]:
    """Loader of the folder whose files stand in one."""

    def load(path: Path) -> Weights:
        found = path.read_bytes().split(SEPARATOR)
        for name, content in zip(PARTS[form], found, strict=False):
            (path.parent / name).write_bytes(content)
        for name in PARTS[form][len(found) :]:
            (path.parent / name).unlink(missing_ok=True)
        return module.load(path.parent)

    return load


# format -> (the file's name, its loader)
LOADERS: dict[str, tuple[str, Callable[[Path], Weights]]] = {
    "openai": ("toy.pt", openai.load),
    "ggml": ("toy.bin", ggml.load),
    "ct2": ("model.bin", lambda path: ctranslate2.load(path.parent)),
    "packed": ("toy.safetensors", packed.load),
    "hf": ("toy", _folder("hf", huggingface)),
    "hf_index": ("toy", _folder("hf_index", huggingface)),
    "onnx": ("toy", _folder("onnx", onnx_reader)),
    "onnx_hf": ("toy", _folder("onnx_hf", onnx_hf)),
}


def originals(form: str) -> list[bytes]:
    """Sound files of a format: in floats, and on grids where the format has them."""
    # Real vocabularies are large and have no structure to damage but their lengths.
    ggml_writer.ordinary_tokens = lambda dims: [b"a", b"bc", b"\xff"]
    hf_write._ends = lambda dims: (0, 1)
    onnx_writer.sherpa_metadata = lambda dims, any_window: {
        k: str(v) for k, v in asdict(dims).items()
    }
    onnx_writer.tokens_txt = lambda dims: ""
    generator = torch.Generator().manual_seed(0)
    shapes = weight_shapes(DIMS)
    state = {n: torch.randn(s, generator=generator) * 0.1 for n, s in shapes.items()}
    found = []
    for name in GRIDS[form]:
        quantized = {}
        if name != "none":
            grid = get_grid(name)
            quantized = {n: grid.quantize(state[n]) for n in assign_grids(DIMS, name)}
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "toy" / LOADERS[form][0]
            path.parent.mkdir()
            _write(form, path, Weights(DIMS, dict(state)), quantized)
            for name in ("vocabulary.json", "tokens.txt"):  # of no Whisper's size
                (path.parent / name).unlink(missing_ok=True)
            if form in PARTS:
                parts = [(path.parent / part).read_bytes() for part in PARTS[form]]
                path.write_bytes(SEPARATOR.join(parts))
            LOADERS[form][1](path)  # sound as it is
            found.append(path.read_bytes())
    return found


def _write(form: str, path: Path, weights: Weights, quantized: Mapping[str, Quantized]) -> None:
    if form == "openai":
        save_pt(path, weights)
    elif form == "ggml":
        ggml_writer.save(path, weights, quantized)
    elif form == "packed":
        save_packed(path, weights, quantized)
    elif form in ("hf", "hf_index"):
        hf_write.save_weights(path.parent, weights, "float16")
        _write_config(path.parent, weights)
        if form == "hf_index":
            _split(path.parent)
    elif form == "onnx":
        onnx_writer.save(path.parent, weights, quantized)
    elif form == "onnx_hf":
        _write_onnx_hf(path.parent, weights)
    else:
        spec = ctranslate2_writer.specification(weights, quantized, "float16")
        spec.register_vocabulary([str(i) for i in range(DIMS.n_vocab)])
        spec.validate()
        spec.optimize()
        spec.save(str(path.parent))
        (path.parent / "config.json").unlink()  # settings of tokens, which no Whisper has so few of


def _write_config(folder: Path, weights: Weights) -> None:
    config = hf_write.config(weights.dims)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _split(folder: Path) -> None:
    """A Hugging Face folder's tensors in two files, and their index."""
    tensors = safetensors.torch.load_file(folder / hf.FILE)
    (folder / hf.FILE).unlink()
    names, files = sorted(tensors), PARTS["hf_index"][2:]
    parts = {file: names[i :: len(files)] for i, file in enumerate(files)}
    for file, part in parts.items():
        safetensors.torch.save_file({n: tensors[n] for n in part}, folder / file)
    index = {"metadata": {}, "weight_map": {n: file for file, part in parts.items() for n in part}}
    (folder / hf.INDEX).write_text(json.dumps(index), encoding="utf-8")


def _write_onnx_hf(folder: Path, weights: Weights) -> None:
    """config.json and a pair as ONNX Runtime's quantizer leaves it; the nodes compute nothing."""
    _write_config(folder, weights)
    for side, file in onnx_hf.FILES.items():
        nodes, tensors = [], []
        for name, tensor in weights.state.items():
            if not name.startswith(side):
                continue
            theirs = hf_name(name).removeprefix("model.")
            if tensor.dim() == 1 or "positional" in name:
                tensors.append(numpy_helper.from_array(tensor.numpy(), theirs))
                continue
            embedding, stored = "embed" in theirs, f"onnx::{len(tensors)}"
            linear = tensor.dim() == 2 and not embedding
            tensors += _quantized(stored, tensor.T if linear else tensor)
            kind = "Gather" if embedding else "MatMulInteger" if linear else "ConvInteger"
            matrix = f"{stored}_quantized"
            inputs = [matrix, "x"] if embedding else ["x", matrix]
            layer = f"/model/{theirs.removesuffix('.weight').replace('.', '/')}"
            nodes.append(helper.make_node(kind, inputs, [f"y{len(nodes)}"], f"{layer}/{kind}"))
        if side == "decoder":  # two decoders were merged: with and without a cache
            branch = helper.make_graph(nodes, "branch", [], [])
            nodes = [helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch)]
        onnx.save(helper.make_model(helper.make_graph(nodes, side, [], [], tensors)), folder / file)


def _quantized(name: str, values: Tensor) -> list[onnx.TensorProto]:
    """Integers, scale and zero point of a tensor, in ONNX Runtime's names."""
    scale = values.abs().max().numpy() / np.float32(127)
    integers = np.rint(values.numpy() / scale + 128).astype(np.uint8)
    parts = {"quantized": integers, "scale": scale, "zero_point": np.uint8(128)}
    return [
        numpy_helper.from_array(np.asarray(part), f"{name}_{key}") for key, part in parts.items()
    ]
