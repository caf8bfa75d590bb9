"""OpenAI's checkpoint: a `.pt` file with `{"dims", "model_state_dict"}`, values in float16.

A trimmed model's has `kept_tokens` as well, int32 [n_vocab]: the ids of its tokens in the whole
vocabulary. One that was trained in windows of every length says `any_window`. `whisper.load_model`
reads such a file and passes over both.
"""

from dataclasses import fields
from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import torch_file
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.weights import KEPT, Weights, cast, check_dims, with_kept


def load(path: Path | str) -> Weights:
    """Read a checkpoint as `whisper.load_model` would, tensors as stored.

    Raises:
        InputError: the file is missing, truncated, holds something else, or its tensors do
            not make a `Whisper(dims)`.
    """
    path = Path(path)
    checkpoint = torch_file.read(path)
    if not isinstance(checkpoint, dict) or not {"dims", "model_state_dict"} <= checkpoint.keys():
        raise InputError(f"{path}: a checkpoint needs the keys dims and model_state_dict")
    dims, state = checkpoint["dims"], checkpoint["model_state_dict"]
    names = {field.name for field in fields(ModelDimensions)}
    if not isinstance(dims, dict) or dims.keys() != names:
        raise InputError(f"{path}: dims needs exactly the keys {', '.join(sorted(names))}")
    if not isinstance(state, dict):
        raise InputError(f"{path}: model_state_dict is not a dict of tensors")
    dims = check_dims(ModelDimensions(**dims), str(path))
    if KEPT in checkpoint:
        dims = with_kept(dims, torch_file.tensors({KEPT: checkpoint[KEPT]}, path)[KEPT], str(path))
    state = {
        # As openai-whisper takes them; what is stored in these two types stays as it is.
        name: t if t.dtype in (torch.float16, torch.float32) else cast(t, torch.float32, name, path)
        for name, t in torch_file.tensors(state, path).items()
    }
    any_window = read_any_window(checkpoint, path)
    return Weights(dims, state, any_window=any_window).check(str(path))
