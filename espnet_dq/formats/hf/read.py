"""Hugging Face's Whisper folder: safetensors, configurations, tokenizer.

transformers reads it, and everything that converts from there. The format has no integers of
ours: weights on a grid are stored as their float32 values, which equal the grid's bit for bit
(float16 would not), so nothing gets smaller.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import lexists
from pathlib import Path

import torch
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import safetensors_file, torch_file
from espnet_dq.formats.hf import FILE, FILES, INDEX, PICKLE_INDEX
from espnet_dq.formats.hf.names import hf_name, read_dims, read_json
from espnet_dq.formats.hf.vocabulary import read_generation, read_vocabulary
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.dims import weight_shapes
from espnet_dq.whisper.weights import EMBEDDING, Weights, cast, shown

_EMBEDDING = hf_name(EMBEDDING)
_PROJECTION = "proj_out.weight"  # tied to the embedding, so mostly not stored
# What openai-whisper computes; config.json may leave these out.
MODEL = {"model_type": "whisper", "activation_function": "gelu", "scale_embedding": False}


def load(folder: Path | str) -> Weights:
    """Read the folder; weights may lie in several files, and be pickled.

    Other floats than float16 become float32.

    Rows of the embedding are in our order then, see `vocabulary.arrange`.

    Raises:
        InputError: config.json, the tokenizer or the weights are missing or damaged, or a tensor
            is missing, unknown, of the wrong type or shape.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = read_json(path)
    sizes = described(config, path)
    dims, order = read_vocabulary(sizes, folder)
    weights = of_tensors(sizes, *_stored(folder))
    generation = read_generation(config, folder, dims, order, sizes.n_vocab)
    found = replace(weights, dims=dims, generation=generation)
    return replace(found, any_window=read_any_window(config, path)).arranged(order)


def described(config: Mapping[str, object], source: object) -> ModelDimensions:
    """Dimensions of a config.json; raises `InputError` where openai-whisper computes otherwise."""
    for key, expected in MODEL.items():
        if config.get(key, expected) != expected:
            raise InputError(f"{source}: {key} is {shown(config[key])}, expected {expected!r}")
    return read_dims(config, source)


def of_tensors(sizes: ModelDimensions, source: object, stored: Mapping[str, Tensor]) -> Weights:
    """Weights of these sizes from tensors under Hugging Face's names; raises `InputError`."""
    stored, state = dict(stored), {}
    for name in weight_shapes(sizes):
        if hf_name(name) not in stored:
            raise InputError(f"{source}: {hf_name(name)} is missing")
        state[name] = stored.pop(hf_name(name))
    if stored:
        raise InputError(f"{source}: {min(stored)} is not a Whisper weight")
    return Weights(sizes, state).check(str(source))


def as_stored(
    folder: Path, among: Sequence[str] = FILES
) -> tuple[Path, list[Path], dict[str, Tensor]]:
    """The file by which weights are known, those that hold them, and all tensors as they lie there.

    The first of the names that is there is read. Raises `InputError` as `load` does.
    """
    source = next((folder / name for name in among if lexists(folder / name)), folder / FILE)
    files, expected = _index(source) if source.name in (INDEX, PICKLE_INDEX) else ([source], None)
    stored: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in (_pickled(file) if file.suffix == ".bin" else _safe(file)).items():
            if name in stored:
                raise InputError(f"{file}: {name} is also in another file")
            stored[name] = tensor
    # In a pickle the projection may be the embedding itself; then it is not stored twice.
    tied = {_PROJECTION} if source.name == PICKLE_INDEX else set()
    if expected and (odd := sorted((expected ^ stored.keys()) - tied)):
        where = "the index only" if odd[0] in expected else "the files only"
        raise InputError(f"{source}: {odd[0]} is in {where}")
    return source, files, stored


def _stored(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file to name in messages, and all tensors in it or in those that it lists."""
    source, _, stored = as_stored(folder)
    stored = {
        name: t if t.dtype == torch.float16 else cast(t, torch.float32, name, source)
        for name, t in stored.items()
    }
    projection, embedding = stored.pop(_PROJECTION, None), stored.get(_EMBEDDING)
    if projection is not None and (embedding is None or not torch.equal(projection, embedding)):
        raise InputError(f"{source}: {_PROJECTION} is not {_EMBEDDING}, which a Whisper's is")
    return source, stored


def _safe(file: Path) -> dict[str, Tensor]:
    return safetensors_file.read(file)[1]


def _pickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a state dict that torch saved; the tied projection only if it is another."""
    content = torch_file.read(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}: not a table of tensors")
    embedding, projection = content.get(_EMBEDDING), content.get(_PROJECTION)
    if isinstance(projection, Tensor) and isinstance(embedding, Tensor) and projection.is_set_to(
        embedding
    ):  # fmt: skip
        content = {name: tensor for name, tensor in content.items() if name != _PROJECTION}
    return torch_file.tensors(content, file)


def _index(path: Path) -> tuple[list[Path], set[str]]:
    """The files of a model in several, and the names of all tensors in them."""
    table = read_json(path).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise InputError(f"{path}: weight_map is missing")
    part = re.compile(
        rf"[A-Za-z0-9_.-]{{1,200}}\{'.bin' if path.name == PICKLE_INDEX else '.safetensors'}"
    )
    for name, file in table.items():
        if not isinstance(file, str) or not part.fullmatch(file):
            raise InputError(
                f"{path}: {name[:80]} lies in {shown(file)}, which is no file beside it"
            )
    return [path.with_name(file) for file in sorted({*table.values()})], {*table}
