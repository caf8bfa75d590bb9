"""Write OpenAI's checkpoint, which stock `whisper.load_model` reads; `read` says what is in it."""

from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.whisper.any_window import say_any_window
from espnet_dq.whisper.vocabulary import added_tokens, numbers
from espnet_dq.whisper.weights import Weights, cast, kept_tokens


def check_vocabulary(dims: ModelDimensions) -> None:
    """Raise `InputError` for added tokens: openai-whisper tells a vocabulary by its size."""
    if more := added_tokens(dims):
        raise InputError(f"openai-whisper only has tokens of its own, so not {more[0]!r}")


def save(path: Path | str, weights: Weights, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint that stock `whisper.load_model(path)` reads, values cast to `dtype`.

    float16 is what OpenAI publishes; weights that lie on a grid need float32 to stay on it.
    """
    weights.check(str(path))
    check_vocabulary(weights.dims)
    state = {name: cast(tensor, dtype, name, path) for name, tensor in weights.state.items()}
    content = {
        "dims": numbers(weights.dims),
        "model_state_dict": state,
        **kept_tokens(weights.dims),
        **say_any_window(weights.any_window),
    }
    with atomic(path) as tmp, open(tmp, "wb") as f:
        torch.save(content, f)
