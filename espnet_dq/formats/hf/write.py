"""Write a Hugging Face Whisper folder; `read` says what is in it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import atomic, share
from espnet_dq.formats.ct2 import config as ctranslate2_config
from espnet_dq.formats.hf import FILE, HuggingFace
from espnet_dq.formats.hf.names import DIMS, hf_name
from espnet_dq.formats.hf.read import MODEL
from espnet_dq.formats.hf.vocabulary import GENERATION
from espnet_dq.formats.tokenizer_json import build
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.any_window import say_any_window
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.generation import Generation, generation_config
from espnet_dq.whisper.weights import Weights, cast

_PROCESSOR = "WhisperProcessor"


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
    with atomic(folder, HuggingFace.folder) as tmp:
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
    save_config(folder, weights.dims, dtype, weights.any_window)


def save_config(folder: Path, dims: ModelDimensions, dtype: str, any_window: bool) -> None:
    """Write config.json; `dtype` is what transformers loads the weights in."""
    content = config(dims) | {"torch_dtype": dtype} | say_any_window(any_window)
    _write_json(folder / "config.json", content)


def save_companions(
    folder: Path, dims: ModelDimensions, generation: Generation | None = None
) -> None:
    """Write what generation, feature extraction and the tokenizer are set up from."""
    _write_json(folder / GENERATION, generation_config(dims, generation))
    _write_json(folder / "preprocessor_config.json", preprocessor(dims))
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


def preprocessor(dims: ModelDimensions) -> dict:
    """preprocessor_config.json; transformers.js does not compute the window's length itself."""
    found = ctranslate2_config.preprocessor(dims)
    samples = found["chunk_length"] * found["sampling_rate"]
    return found | {
        "n_samples": samples,
        "nb_max_frames": samples // found["hop_length"],
        "feature_extractor_type": "WhisperFeatureExtractor",
        "processor_class": _PROCESSOR,
    }


def config(dims: ModelDimensions) -> dict:
    """config.json: the model's sizes, and openai-whisper's architecture in transformers' terms."""
    eot, sot = _ends(dims)
    return {
        **MODEL,
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


def _ends(dims: ModelDimensions) -> tuple[int, int]:
    """Ids of `<|endoftext|>`, which also pads, and `<|startoftranscript|>`."""
    tokenizer = any_tokenizer(dims)
    return tokenizer.eot, tokenizer.sot


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
