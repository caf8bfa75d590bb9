"""Sizes of Whisper models, and the tokenizer that goes with a vocabulary."""

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import nn
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder
from whisper.tokenizer import LANGUAGES, Tokenizer, get_tokenizer

from espnet_dq.errors import InputError


def _multilingual(state: int, heads: int, layers: int) -> ModelDimensions:
    return ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=state,
        n_audio_head=heads,
        n_audio_layer=layers,
        n_vocab=51865,
        n_text_ctx=448,
        n_text_state=state,
        n_text_head=heads,
        n_text_layer=layers,
    )


SIZES = {
    "tiny": _multilingual(384, 6, 4),
    "base": _multilingual(512, 8, 6),
    "small": _multilingual(768, 12, 12),
}


def model_dims(spec: str | Mapping[str, int]) -> ModelDimensions:
    """Dimensions from a size's name or from all of openai-whisper's ten numbers by name.

    Raises `InputError` for an unknown size and for missing or unknown keys.
    """
    if isinstance(spec, str):
        if spec not in SIZES:
            raise InputError(f"unknown Whisper size '{spec}': known are {', '.join(SIZES)}")
        return SIZES[spec]
    wanted = {f.name for f in fields(ModelDimensions)}
    for problem, keys in (("missing", wanted - set(spec)), ("unknown", set(spec) - wanted)):
        if keys:
            raise InputError(f"model dimensions: {problem} key {min(keys)}")
    return ModelDimensions(**spec)


def empty_parts(dims: ModelDimensions) -> dict[str, nn.Module]:
    """`encoder` and `decoder` without storage (meta device): names and shapes only."""
    d = dims
    with torch.device("meta"):
        return {
            "encoder": AudioEncoder(
                d.n_mels, d.n_audio_ctx, d.n_audio_state, d.n_audio_head, d.n_audio_layer
            ),
            "decoder": TextDecoder(
                d.n_vocab, d.n_text_ctx, d.n_text_state, d.n_text_head, d.n_text_layer
            ),
        }


def vocabulary_tokenizer(n_vocab: int) -> Tokenizer:
    """openai-whisper's multilingual tokenizer for 51865 (99 languages) or 51866 (100) tokens.

    Raises `InputError` for another size: its special tokens would be somebody's guess.
    """
    if n_vocab not in (51865, 51866):
        raise InputError(f"no multilingual Whisper tokenizer has {n_vocab} tokens")
    return get_tokenizer(multilingual=True, num_languages=n_vocab - 51766)


def language_token(tokenizer: Tokenizer, language: str) -> int:
    """Id of `<|language|>`, for one of Whisper's codes (`en`, `cs`, ...).

    Raises `InputError` when this vocabulary has no such language.
    """
    if language not in LANGUAGES or f"<|{language}|>" not in tokenizer.special_tokens:
        raise InputError(f"unknown language '{language}': Whisper's codes are two or three letters")
    return tokenizer.special_tokens[f"<|{language}|>"]


def encode_text(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a transcript, with the leading space that Whisper's text has."""
    return tokenizer.encode(" " + text.strip())
