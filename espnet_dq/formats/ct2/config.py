"""What a CTranslate2 Whisper folder holds beside its weights, for faster-whisper to run it."""

import json

from whisper.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import tokenizer_json
from espnet_dq.whisper.any_window import say_any_window
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.generation import Generation, openais
from espnet_dq.whisper.vocabulary import token_strings

_POSITIONS_PER_SECOND = SAMPLE_RATE // HOP_LENGTH // 2


def config(
    dims: ModelDimensions, generation: Generation | None, any_window: bool
) -> dict[str, list | bool]:
    """config.json: the tokens that decoding suppresses, the languages, the alignment heads.

    The model's own, or OpenAI's. And, which CTranslate2 passes over, `Weights.any_window`.
    """
    found = generation or openais(dims)
    return {
        "suppress_ids": [*found.suppress_tokens],
        "suppress_ids_begin": [*found.begin_suppress_tokens],
        "lang_ids": [*found.languages],
        "alignment_heads": [[*pair] for pair in found.alignment_heads],
        **say_any_window(any_window),
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
            f"({_POSITIONS_PER_SECOND} positions each), as preprocessor_config.json says windows"
        )
    return {
        "feature_size": dims.n_mels,
        "sampling_rate": SAMPLE_RATE,
        "hop_length": HOP_LENGTH,
        "n_fft": N_FFT,
        "chunk_length": seconds,
    }


def companions(
    dims: ModelDimensions, generation: Generation | None, any_window: bool
) -> dict[str, str]:
    """Name -> text of each file beside model.bin.

    Without indentation: a small student's vocabulary would otherwise weigh half a megabyte more.
    """
    encoding = any_tokenizer(dims).encoding
    contents = {
        "config.json": config(dims, generation, any_window),
        "preprocessor_config.json": preprocessor(dims),
        "vocabulary.json": token_strings(encoding),
    }
    texts = {
        name: json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"
        for name, content in contents.items()
    }
    return texts | {"tokenizer.json": tokenizer_json.text(encoding)}
