"""The tensors of a safetensors file of others, and what it says of itself."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espnet_dq.errors import InputError, first_line
from espnet_dq.formats import json_file
from espnet_dq.reading import file_size
from espnet_dq.whisper.weights import FLOATS

TYPES = (*FLOATS, torch.uint8, torch.int32)  # what any format here keeps in such a file


def read(path: Path | str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors; the library checks their offsets against the file's size.

    Raises:
        InputError: no such file, a header that is damaged or names a tensor twice, or a tensor of
            a type that no format here has.
    """
    path = Path(path)
    size = file_size(path)
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        if not 2 <= length <= min(size - 8, json_file.LARGEST):
            raise InputError(f"{path}: not a readable safetensors file (no header)")
        json_file.parse(f.read(length), path)  # the library takes one of two alike
    tensors = {}
    try:
        with safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            for name in f.keys():  # noqa: SIM118
                tensors[name] = tensor = f.get_tensor(name)
                if tensor.dtype not in TYPES:
                    raise InputError(f"{path}: {name[:80]} is {tensor.dtype}, expected a float")
    # KeyError, AttributeError: a type that this PyTorch does not have.
    except (SafetensorError, ValueError, OSError, KeyError, AttributeError, RuntimeError) as e:
        line = first_line(e)
        raise InputError(f"{path}: not a readable safetensors file ({line})") from e
    return metadata, tensors
