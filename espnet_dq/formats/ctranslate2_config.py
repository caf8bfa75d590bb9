"""What a CTranslate2 Whisper folder holds beside its weights, for faster-whisper to run it."""

import base64
import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import whisper
from whisper.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats.tokenizer_json import build
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import token_strings, whole_size

# (decoder layers, decoder heads, whole vocabulary) -> the model whose alignment heads are known.
# The large models of one shape differ in theirs, so they take the default. A student that was cut
# to one of these shapes takes that model's, which only word timestamps read.
_NAMES = {
    (4, 6, 51865): "tiny",
    (4, 6, 51864): "tiny.en",
    (6, 8, 51865): "base",
    (6, 8, 51864): "base.en",
    (12, 12, 51865): "small",
    (12, 12, 51864): "small.en",
    (24, 16, 51865): "medium",
    (24, 16, 51864): "medium.en",
    (32, 20, 51866): "large-v3",
    (4, 20, 51866): "large-v3-turbo",
}
_POSITIONS_PER_SECOND = SAMPLE_RATE // HOP_LENGTH // 2


def alignment_heads(dims: ModelDimensions) -> list[list[int]]:
    """[layer, head] of the cross-attention heads that follow time.

    openai-whisper's table for its own models; otherwise its default, every head of the upper
    half of the layers.
    """
    layers, heads = dims.n_text_layer, dims.n_text_head
    name = _NAMES.get((layers, heads, whole_size(dims)))
    if name is None:
        pairs = itertools.product(range(layers // 2, layers), range(heads))
        return [list(pair) for pair in pairs]
    mask = gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name]))
    return np.argwhere(np.frombuffer(mask, dtype=bool).reshape(layers, heads)).tolist()


def config(dims: ModelDimensions) -> dict[str, list]:
    """config.json: the tokens that decoding suppresses, the languages, the alignment heads.

    The lists are those that openai-whisper's own decoding makes from its tokenizer.
    """
    tokenizer = any_tokenizer(dims)
    suppressed = {
        *tokenizer.non_speech_tokens,
        tokenizer.sot,
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot_lm,
        tokenizer.sot_prev,
        tokenizer.no_speech,
    }
    return {
        "suppress_ids": sorted(suppressed),
        "suppress_ids_begin": sorted([*tokenizer.encode(" "), tokenizer.eot]),
        "lang_ids": sorted(tokenizer.all_language_tokens),
        "alignment_heads": alignment_heads(dims),
    }


def preprocessor(dims: ModelDimensions) -> dict[str, int]:
    """preprocessor_config.json: the window in seconds and the spectrogram's sizes.

    Raises:
        InputError: the model's window is no whole number of seconds.
    """
    seconds, rest = divmod(dims.n_audio_ctx, _POSITIONS_PER_SECOND)
    if rest:
        raise InputError(
            f"n_audio_ctx = {dims.n_audio_ctx} is no whole number of seconds "
            f"({_POSITIONS_PER_SECOND} positions each), which faster-whisper needs"
        )
    return {
        "feature_size": dims.n_mels,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP_LENGTH,
        "n_fft": N_FFT,
        "chunk_length": seconds,
    }


def save_companions(folder: Path, dims: ModelDimensions) -> None:
    """Write config.json, vocabulary.json, tokenizer.json and preprocessor_config.json.

    Without indentation: a small student's vocabulary would otherwise weigh half a megabyte more.
    """
    encoding = any_tokenizer(dims).encoding
    for name, content in {
        "config.json": config(dims),
        "preprocessor_config.json": preprocessor(dims),
        "vocabulary.json": token_strings(encoding),
    }.items():
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        (folder / name).write_text(text + "\n", encoding="utf-8")
    build(encoding).save(str(folder / "tokenizer.json"), pretty=False)
