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
from espnet_dq.formats import companions, tokenizer_json
from espnet_dq.formats.ct2 import config as ctranslate2_config
from espnet_dq.formats.hf import FILE, HuggingFace
from espnet_dq.formats.hf.names import DIMS, hf_name
from espnet_dq.formats.hf.read import MODEL
from espnet_dq.formats.hf.vocabulary import GENERATION
from espnet_dq.formats.report import Reference
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.any_window import say_any_window
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.generation import generation_config
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
        companions.write(tmp, beside(weights, dtype))


def save_weights(folder: Path, weights: Weights, dtype: str) -> None:
    """Write model.safetensors."""
    tensors = {
        hf_name(name): cast(tensor, getattr(torch, dtype), name, folder).contiguous().clone()
        for name, tensor in weights.state.items()
    }
    save_file(tensors, folder / FILE, {"format": "pt"})
    share(folder / FILE)


def beside(weights: Weights | Reference, dtype: str) -> dict[str, str]:
    """Name -> text of each file beside the weights.

    `dtype` is what transformers loads them in. The others say how it generates, computes features
    and reads tokens.
    """
    dims = weights.dims
    tokenizer = any_tokenizer(dims)
    end = tokenizer.encoding.decode([tokenizer.eot])
    contents = {
        "config.json": config(dims) | {"torch_dtype": dtype} | say_any_window(weights.any_window),
        GENERATION: generation_config(dims, weights.generation),
        "preprocessor_config.json": preprocessor(dims),
        "tokenizer_config.json": {
            "tokenizer_class": "WhisperTokenizer",
            "processor_class": _PROCESSOR,
            **dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), end),
            # In their order: transformers takes the ids after the last one for times.
            "additional_special_tokens": tokenizer_json.no_text(tokenizer.encoding),
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    }
    texts = {name: json.dumps(content, indent=1) + "\n" for name, content in contents.items()}
    return texts | {"tokenizer.json": tokenizer_json.text_of_huggingface(tokenizer.encoding)}


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
