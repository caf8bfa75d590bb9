"""Read the folder that `write` writes: the graphs, config.json, and the tokenizer."""

from dataclasses import replace
from pathlib import Path

from whisper.model import ModelDimensions

from espnet_dq.formats.hf.names import read_dims, read_json
from espnet_dq.formats.hf.vocabulary import read_generation, read_vocabulary
from espnet_dq.formats.onnx.graph import Stored
from espnet_dq.formats.onnx.read import state_of, tensors_of
from espnet_dq.formats.onnx.wire import read_model
from espnet_dq.formats.transformers_js import files
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.weights import Weights


def read(folder: Path) -> tuple[dict, ModelDimensions, dict[str, Stored]]:
    """config.json, the dimensions in it, and each tensor as stored; raises `InputError`."""
    path = folder / "config.json"
    config = read_json(path)
    dims = read_dims(config, path)
    models = {file: read_model(file) for file in files(folder).values()}
    return config, dims, tensors_of(models, dims, folder)


def load(folder: Path | str) -> Weights:
    """Floats as stored, the rest dequantized to float32; raises `InputError`."""
    folder = Path(folder)
    config, dims, tensors = read(folder)
    weights = Weights(dims, state_of(tensors)).check(str(folder))
    found, order = read_vocabulary(dims, folder)
    generation = read_generation(config, folder, found, order, dims.n_vocab)
    any_window = read_any_window(config, folder / "config.json")
    weights = replace(weights, dims=found, generation=generation, any_window=any_window)
    return weights.arranged(order)
