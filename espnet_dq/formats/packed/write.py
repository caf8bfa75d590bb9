"""Write packed safetensors; the layout is in docs/packed_format.md."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from espnet_dq.errors import InputError
from espnet_dq.files import atomic, share
from espnet_dq.formats.packed.read import CHUNK, FORMAT, VERSION
from espnet_dq.quant.grids import Quantized, get_grid
from espnet_dq.whisper.any_window import say_any_window
from espnet_dq.whisper.generation import to_table
from espnet_dq.whisper.vocabulary import added_tokens, numbers
from espnet_dq.whisper.weights import Weights, cast, kept_tokens


def pack(integers: Tensor, bits: int) -> Tensor:
    """int8 of any shape -> uint8 [ceil(values * bits / 8)].

    Each integer plus 2^(bits-1) as an unsigned number of `bits` bits, one after the other, the
    lowest bit first, from each byte's lowest bit on; the last byte is filled up with zeros.
    """
    values = (integers.flatten().numpy().astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    parts = []
    for start in range(0, len(values), CHUNK):
        each = np.unpackbits(
            values[start : start + CHUNK, None], axis=1, count=bits, bitorder="little"
        )
        parts.append(np.packbits(each, bitorder="little"))
    return torch.from_numpy(np.concatenate(parts))


def save(
    path: Path | str,
    weights: Weights,
    quantized: Mapping[str, Quantized],
    *,
    float_dtype: str = "float16",
) -> None:
    """Write the file, whole or not at all.

    Args:
        path: where.
        weights: the model; tensors named in `quantized` are not read from it.
        quantized: openai-whisper's name -> integers and scales, on any mixture of grids.
        float_dtype: `float16` or `float32`, for everything else.

    Raises:
        InputError: the weights are no Whisper, or a name in `quantized` is not one of theirs.
    """
    weights.check(str(path))
    tensors = kept_tokens(weights.dims)
    for name, q in quantized.items():
        if name not in weights.state or q.integers.shape != weights.state[name].shape:
            raise InputError(f"{path}: {name} is quantized, but no such Whisper weight")
        tensors[f"{name}.integers"] = pack(q.integers.cpu(), get_grid(q.grid).bits)
        tensors[f"{name}.scale"] = q.scale.cpu().contiguous()
    for name, tensor in weights.state.items():
        if name not in quantized:
            values = cast(tensor, getattr(torch, float_dtype), name, path)
            tensors[name] = values.contiguous().clone()
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "dims": json.dumps(numbers(weights.dims)),
        "grids": json.dumps({name: q.grid for name, q in quantized.items()}),
    }
    if added_tokens(weights.dims):
        added = {"text": weights.dims.added, "special": weights.dims.special}
        metadata["added_tokens"] = json.dumps(added)
    if weights.generation is not None:
        metadata["generation"] = json.dumps(to_table(weights.generation))
    for key, value in say_any_window(weights.any_window).items():
        metadata[key] = json.dumps(value)
    with atomic(path) as tmp:
        save_file(tensors, tmp, metadata)
        share(tmp)
