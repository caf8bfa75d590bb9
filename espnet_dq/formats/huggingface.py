"""Hugging Face's Whisper folder: safetensors, configurations, tokenizer.

transformers reads it, and everything that converts from there. The format has no integers of
ours: weights on a grid are stored as their float32 values, which equal the grid's bit for bit
(float16 would not), so nothing gets smaller.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from os.path import lexists
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import Folder, atomic, share
from espnet_dq.formats import ctranslate2_config, safetensors_file, torch_file
from espnet_dq.formats.generation import Generation, generation_config
from espnet_dq.formats.hf_names import DIMS, hf_name, read_dims, read_json
from espnet_dq.formats.hf_vocabulary import GENERATION, read_generation, read_vocabulary
from espnet_dq.formats.tokenizer_json import build
from espnet_dq.formats.weights import Weights, cast, shown
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"  # of a model in several files
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = f"{PICKLE}.index.json"
FOLDER = Folder(
    "hf",
    (
        FILE,
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ),
)
# What such a folder is known by; the first that is there is read, as transformers does.
FILES = (FILE, INDEX, PICKLE, PICKLE_INDEX)
_EMBEDDING = hf_name("decoder.token_embedding.weight")
_PROCESSOR = "WhisperProcessor"
_PROJECTION = "proj_out.weight"  # tied to the embedding, so mostly not stored
# What openai-whisper computes; config.json may leave these out.
_MODEL = {"model_type": "whisper", "activation_function": "gelu", "scale_embedding": False}


def save(
    folder: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
) -> None:
    """Write the folder, whole or not at all; it replaces a folder of that name.

    Args:
        folder: where.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales, on any mixture of grids. If
            there are any, every tensor is stored as float32.
        float_dtype: `float16` or `float32`, if nothing is quantized.

    Raises:
        InputError: the weights are no Whisper, or a name in `quantized` is not one of theirs.
    """
    weights.check(str(folder))
    state = dict(weights.state)
    for name, q in quantized.items():
        if name not in state or q.integers.shape != state[name].shape:
            raise InputError(f"{folder}: {name} is quantized, but no such Whisper weight")
        state[name] = get_grid(q.grid).dequantize(q)
    dtype = "float32" if quantized else float_dtype
    with atomic(folder, FOLDER) as tmp:
        tmp.mkdir()
        save_weights(tmp, replace(weights, state=state), dtype)
        save_companions(tmp, weights.dims, weights.generation)


def save_weights(folder: Path, weights: Weights, dtype: str) -> None:
    """Write model.safetensors and config.json."""
    tensors = {
        hf_name(name): cast(tensor, getattr(torch, dtype), name, folder).contiguous().clone()
        for name, tensor in weights.state.items()
    }
    save_file(tensors, folder / FILE, {"format": "pt"})
    share(folder / FILE)
    save_config(folder, weights.dims, dtype)


def save_config(folder: Path, dims: ModelDimensions, dtype: str) -> None:
    """Write config.json; `dtype` is what transformers loads the weights in."""
    _write_json(folder / "config.json", config(dims) | {"torch_dtype": dtype})


def save_companions(
    folder: Path, dims: ModelDimensions, generation: Generation | None = None
) -> None:
    """Write what generation, feature extraction and the tokenizer are set up from."""
    _write_json(folder / GENERATION, generation_config(dims, generation))
    _write_json(
        folder / "preprocessor_config.json",
        ctranslate2_config.preprocessor(dims)
        | {"feature_extractor_type": "WhisperFeatureExtractor", "processor_class": _PROCESSOR},
    )
    tokenizer = any_tokenizer(dims)
    content = json.loads(build(tokenizer.encoding).to_str())
    for token in content["added_tokens"]:  # times are part of the text, if asked for
        token["special"] = tokenizer.eot <= token["id"] < tokenizer.timestamp_begin
    (folder / "tokenizer.json").write_text(
        json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    special = [token["content"] for token in content["added_tokens"] if token["special"]]
    end = tokenizer.encoding.decode([tokenizer.eot])
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": _PROCESSOR,
            **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end),
            # In their order: transformers takes the ids after the last one for times.
            "additional_special_tokens": special,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    )


def config(dims: ModelDimensions) -> dict:
    """config.json: the model's sizes, and openai-whisper's architecture in transformers' terms."""
    eot, sot = _ends(dims)
    return {
        **_MODEL,
        "architectures": ["WhisperForConditionalGeneration"],
        **{key: getattr(dims, name) for name, key in DIMS.items()},
        "encoder_ffn_dim": 4 * dims.n_audio_state,
        "decoder_ffn_dim": 4 * dims.n_text_state,
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "decoder_start_token_id": sot,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), eot),
        # Only an old default of transformers': generation_config.json has the real ones.
        "begin_suppress_tokens": None,
    }


def load(folder: Path | str) -> Weights:
    """Read the folder; weights may lie in several files, and be pickled. bfloat16 becomes float32.

    Rows of the embedding are in our order then, see `vocabulary.arrange`.

    Raises:
        InputError: config.json, the tokenizer or the weights are missing or damaged, or a tensor
            is missing, unknown, of the wrong type or shape.
    """
    folder = Path(folder)
    path = folder / "config.json"
    config = read_json(path)
    for key, expected in _MODEL.items():
        if config.get(key, expected) != expected:
            raise InputError(f"{path}: {key} is {shown(config[key])}, expected {expected!r}")
    sizes = read_dims(config, path)
    dims, order = read_vocabulary(sizes, folder)
    source, stored = _stored(folder)
    state = {}
    for name in weight_shapes(sizes):
        if hf_name(name) not in stored:
            raise InputError(f"{source}: {hf_name(name)} is missing")
        state[name] = stored.pop(hf_name(name))
    if stored:
        raise InputError(f"{source}: {min(stored)} is not a Whisper weight")
    weights = Weights(sizes, state).check(str(source))
    generation = read_generation(config, folder, dims, order, sizes.n_vocab)
    return replace(weights, dims=dims, generation=generation).arranged(order)


def _stored(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file to name in messages, and all tensors in it or in those that it lists."""
    source = next((folder / name for name in FILES if lexists(folder / name)), folder / FILE)
    files, expected = _index(source) if source.name in (INDEX, PICKLE_INDEX) else ([source], None)
    stored: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in (_pickled(file) if file.suffix == ".bin" else _safe(file)).items():
            if name in stored:
                raise InputError(f"{file}: {name} is also in another file")
            if tensor.dtype == torch.bfloat16:
                tensor = tensor.float()
            if tensor.dtype not in (torch.float16, torch.float32):
                raise InputError(f"{file}: {name} is {tensor.dtype}, expected a float")
            stored[name] = tensor
    # In a pickle the projection may be the embedding itself; then it is not stored twice.
    tied = {_PROJECTION} if source.name == PICKLE_INDEX else set()
    if expected and (odd := sorted((expected ^ stored.keys()) - tied)):
        where = "the index only" if odd[0] in expected else "the files only"
        raise InputError(f"{source}: {odd[0]} is in {where}")
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


def _ends(dims: ModelDimensions) -> tuple[int, int]:
    """Ids of `<|endoftext|>`, which also pads, and `<|startoftranscript|>`."""
    tokenizer = any_tokenizer(dims)
    return tokenizer.eot, tokenizer.sot


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
