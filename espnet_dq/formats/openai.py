"""OpenAI's checkpoint: a `.pt` file with `{"dims", "model_state_dict"}`, values in float16.

A trimmed model's has `kept_tokens` as well, int32 [n_vocab]: the ids of its tokens in the whole
vocabulary. `whisper.load_model` reads such a file and passes over them.
"""

import zipfile
from dataclasses import fields
from pathlib import Path

import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.formats.weights import KEPT, Weights, check_dims, kept_tokens, with_kept
from espnet_dq.whisper.vocabulary import numbers


def load(path: Path | str) -> Weights:
    """Read a checkpoint as `whisper.load_model` would, tensors as stored.

    Raises:
        InputError: the file is missing, truncated, holds something else, or its tensors do
            not make a `Whisper(dims)`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        _check_members(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as e:  # damaged pickles make torch raise whatever its opcodes stumble on
        with open(path, "rb") as f:
            zipped = f.read(4) == b"PK\x03\x04"
        reason = "damaged or truncated" if zipped else "not a torch checkpoint"
        raise InputError(f"{path}: {reason} ({_first_line(e)})") from e
    if not isinstance(checkpoint, dict) or not {"dims", "model_state_dict"} <= checkpoint.keys():
        raise InputError(f"{path}: a checkpoint needs the keys dims and model_state_dict")
    dims, state = checkpoint["dims"], checkpoint["model_state_dict"]
    names = {field.name for field in fields(ModelDimensions)}
    if not isinstance(dims, dict) or dims.keys() != names:
        raise InputError(f"{path}: dims needs exactly the keys {', '.join(sorted(names))}")
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise InputError(f"{path}: model_state_dict is not a dict of tensors")
    dims = check_dims(ModelDimensions(**dims), str(path))
    if KEPT in checkpoint:
        dims = with_kept(dims, checkpoint[KEPT], str(path))
    return Weights(dims, dict(state)).check(str(path))


def save(path: Path | str, weights: Weights, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint that stock `whisper.load_model(path)` reads, values cast to `dtype`.

    float16 is what OpenAI publishes; weights that lie on a grid need float32 to stay on it.
    """
    weights.check(str(path))
    state = {name: tensor.detach().cpu().to(dtype) for name, tensor in weights.state.items()}
    content = {
        "dims": numbers(weights.dims),
        "model_state_dict": state,
        **kept_tokens(weights.dims),
    }
    with atomic(path) as tmp, open(tmp, "wb") as f:
        torch.save(content, f)


def _check_members(path: Path) -> None:
    """Raise `InputError` when the file could become larger in memory than it is on the disk.

    torch writes its members as they are, but would also unpack compressed ones, of any size.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise InputError(f"{path}: holds compressed members, as torch writes none")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise InputError(f"{path}: its members are larger than the file")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:160]
