"""Sizes of Whisper models, and the tokenizer that goes with a vocabulary."""

from collections.abc import Mapping
from dataclasses import fields, replace

from whisper.model import ModelDimensions
from whisper.tokenizer import LANGUAGES, Tokenizer

from espnet_dq.errors import InputError
from espnet_dq.whisper.vocabulary import (
    WHOLE,
    OwnVocabulary,
    own_tokenizer,
    whole_tokenizer,
)


def _multilingual(state: int, layers: int) -> ModelDimensions:
    return ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=state,
        n_audio_head=state // 64,
        n_audio_layer=layers,
        n_vocab=51865,
        n_text_ctx=448,
        n_text_state=state,
        n_text_head=state // 64,
        n_text_layer=layers,
    )


_LARGE = _multilingual(1280, 32)
_LARGE_V3 = replace(_LARGE, n_mels=128, n_vocab=51866)
_TURBO = replace(_LARGE_V3, n_text_layer=4)
# OpenAI's names of those of many languages.
SIZES = {
    "tiny": _multilingual(384, 4),
    "base": _multilingual(512, 6),
    "small": _multilingual(768, 12),
    "medium": _multilingual(1024, 24),
    **{"large-v1": _LARGE, "large-v2": _LARGE, "large-v3": _LARGE_V3, "large": _LARGE_V3},
    **{"large-v3-turbo": _TURBO, "turbo": _TURBO},
}


def model_dims(spec: str | Mapping[str, int]) -> ModelDimensions:
    """Dimensions from a size's name or from all of openai-whisper's ten numbers by name.

    Raises `InputError` for an unknown size and for missing or unknown keys.
    """
    if isinstance(spec, str):
        if spec not in SIZES:
            raise InputError(f"unknown Whisper size '{spec}': known are {', '.join(SIZES)}")
        return SIZES[spec]
    if not isinstance(spec, Mapping):
        raise InputError(f"model dimensions: {spec!r} is neither a size's name nor a mapping")
    wanted = {f.name for f in fields(ModelDimensions)}
    for problem, keys in (("missing", wanted - set(spec)), ("unknown", set(spec) - wanted)):
        if keys:
            raise InputError(f"model dimensions: {problem} key {min(keys, key=str)}")
    return ModelDimensions(**spec)


def espnet_name(name: str) -> str:
    """`decoder.ln.weight` as checkpoints of a training call it: `decoder.net.ln.weight`."""
    return name.replace(".", ".net.", 1)


def whisper_name(name: str) -> str:
    """`decoder.net.ln.weight`, of a training's checkpoint, as openai-whisper calls it."""
    return name.replace(".net.", ".", 1)


def weight_shapes(dims: ModelDimensions) -> dict[str, tuple[int, ...]]:
    """Name -> shape of each entry of openai-whisper's `Whisper(dims).state_dict()`, in order.

    Written out, because building the modules takes their memory, and building them without
    (meta device) takes seconds of imports in every command.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def affine(name: str, *shape: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def attention(name: str, width: int) -> None:
        for part in ("query", "key", "value", "out"):
            affine(f"{name}.{part}", width, width, bias=part != "key")
        affine(f"{name}_ln", width)

    def block(name: str, width: int, cross: bool) -> None:
        attention(f"{name}.attn", width)
        if cross:
            attention(f"{name}.cross_attn", width)
        affine(f"{name}.mlp.0", 4 * width, width)
        affine(f"{name}.mlp.2", width, 4 * width)
        affine(f"{name}.mlp_ln", width)

    width = dims.n_audio_state
    shapes["encoder.positional_embedding"] = (dims.n_audio_ctx, width)
    affine("encoder.conv1", width, dims.n_mels, 3)
    affine("encoder.conv2", width, width, 3)
    for layer in range(dims.n_audio_layer):
        block(f"encoder.blocks.{layer}", width, cross=False)
    affine("encoder.ln_post", width)
    width = dims.n_text_state
    shapes["decoder.positional_embedding"] = (dims.n_text_ctx, width)
    affine("decoder.token_embedding", dims.n_vocab, width, bias=False)
    for layer in range(dims.n_text_layer):
        block(f"decoder.blocks.{layer}", width, cross=True)
    affine("decoder.ln", width)
    return shapes


def vocabulary_tokenizer(vocabulary: ModelDimensions | int, source: object = None) -> Tokenizer:
    """A model's multilingual tokenizer, by its dimensions or by the size of a whole vocabulary.

    Whole ones have 51865 (99 languages) or 51866 (100) tokens. Raises `InputError`, which names
    `source` if it is given, for another size that comes without its tokens: its special ones would
    be somebody's guess.
    """
    try:
        tokenizer = any_tokenizer(vocabulary)
        if tokenizer.language is None:
            raise InputError(f"no multilingual Whisper tokenizer has {WHOLE[0]} tokens")
    except InputError as e:
        raise e if source is None else InputError(f"{source}: {e}") from e
    return tokenizer


def any_tokenizer(vocabulary: ModelDimensions | int) -> Tokenizer:
    """As `vocabulary_tokenizer`, and English-only Whisper's (51864), for reading and writing files.

    Training and scoring by language need a multilingual one. Raises `InputError`.
    """
    if isinstance(vocabulary, OwnVocabulary):
        return own_tokenizer(vocabulary.kept, vocabulary.added, vocabulary.special)
    return whole_tokenizer(vocabulary if isinstance(vocabulary, int) else vocabulary.n_vocab)


def language_token(tokenizer: Tokenizer, language: str) -> int:
    """Id of `<|language|>`, for one of Whisper's codes (`en`, `cs`, ...).

    Raises `InputError` when this vocabulary has no such language.
    """
    if not knows(tokenizer, language):
        raise InputError(f"unknown language '{language}': the model's are Whisper's codes, as en")
    return tokenizer.special_tokens[f"<|{language}|>"]


def knows(tokenizer: Tokenizer, language: str) -> bool:
    """Whether it has a token of Whisper's code of a language."""
    return language in LANGUAGES and f"<|{language}|>" in tokenizer.special_tokens
