"""Write a ggml Whisper for whisper.cpp that holds our integers and scales as they are.

`read` reads what this writes, with code of its own. Types follow whisper.cpp's own converter:
vectors and both positional embeddings are float32, convolutions float16, the other matrices what
the file is named after. A float32 file is not written: whisper.cpp's convolution aborts on one.
"""

import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from whisper.audio import mel_filters
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.files import atomic
from espnet_dq.formats.ggml import Ggml
from espnet_dq.formats.ggml.pack import BLOCK, SUPERBLOCK, pack
from espnet_dq.formats.ggml.read import FTYPES, MAGIC
from espnet_dq.quant.grids import Quantized
from espnet_dq.whisper.dims import any_tokenizer, weight_shapes
from espnet_dq.whisper.vocabulary import (
    OwnVocabulary,
    added_tokens,
    token_bytes,
    whole_size,
)
from espnet_dq.whisper.weights import Weights, cast

GRIDS = {grid: grid.removeprefix("ggml_").upper() for grid in Ggml.grids}  # -> ggml's type
# ggml's enumeration
_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10,
          "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14}  # fmt: skip


def check_grids(dims: ModelDimensions, grids: Mapping[str, str]) -> None:
    """Raise `InputError` for weights and grids that no file holds.

    whisper.cpp knows the special tokens by their ids in a whole vocabulary, so it cannot have a
    trimmed one. It allocates every matrix in the one type that the file's header names: all of
    them are on one grid of `GRIDS`, or none is.

    Args:
        dims: the model's.
        grids: openai-whisper's name -> grid, of what is on one.
    """
    if more := added_tokens(dims):
        raise InputError(
            f"whisper.cpp counts its languages from the number of tokens, so {more[0]!r} cannot be "
            "one more"
        )
    if isinstance(dims, OwnVocabulary):
        raise InputError(
            f"whisper.cpp only runs whole vocabularies: {dims.n_vocab} of {whole_size(dims)} tokens"
        )
    if not grids:
        return
    kinds = sorted({*grids.values()})
    if len(kinds) > 1 or kinds[0] not in GRIDS:
        raise InputError(f"a ggml file holds one of {', '.join(GRIDS)}, not {', '.join(kinds)}")
    matrices = {n: shape for n, shape in weight_shapes(dims).items() if _is_matrix(n, shape)}
    block = SUPERBLOCK if kinds[0].endswith("_K") else BLOCK
    for name, (_, columns) in matrices.items():
        if columns % block:
            fits = [grid for grid in GRIDS if not grid.endswith("_K") and not columns % BLOCK]
            other = f": {', '.join(fits)} fit" if fits else ""
            raise InputError(
                f"{name}: {columns} columns are no multiple of {block}, as {kinds[0]} needs{other}"
            )
    wanted = matrices.keys()
    if wrong := sorted(wanted ^ grids.keys()):
        raise InputError(
            f"{wrong[0]}: whisper.cpp wants all matrices and nothing else on the grid (preset full)"
        )


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
        quantized: openai-whisper's name -> integers and scales, all on one grid of `GRIDS`.
            Every matrix must be here, or none (`check_grids`).
        float_dtype: of the matrices when none is quantized: `float16`.

    Raises:
        InputError: the weights are no Whisper, a quantized tensor does not fit the file, or
            `float_dtype` is another.
    """
    weights.check(str(path))
    if float_dtype != "float16":
        raise InputError(f"{path}: a ggml file for whisper.cpp holds float16, not {float_dtype}")
    check_grids(weights.dims, {name: q.grid for name, q in quantized.items()})
    kind = GRIDS[next(iter(quantized.values())).grid] if quantized else "F16"
    with atomic(path) as tmp, open(tmp, "wb") as f:
        f.write(_header(weights, FTYPES[kind]))
        for name, tensor in weights.state.items():
            if name in quantized:
                stored, data = kind, pack(quantized[name], kind, tensor, name, path)
            else:
                stored = _float_type(name, tensor)
                dtype = torch.float16 if stored == "F16" else torch.float32
                data = cast(tensor, dtype, name, path).numpy().tobytes()
            shape = list(tensor.shape)
            if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
                shape.append(1)
            encoded = name.encode()
            f.write(struct.pack("<3i", len(shape), len(encoded), _TYPES[stored]))
            f.write(struct.pack(f"<{len(shape)}i", *reversed(shape)) + encoded + data)


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and not name.endswith("positional_embedding")


def _float_type(name: str, tensor: Tensor) -> str:
    return "F16" if _is_matrix(name, tensor.shape) or tensor.dim() == 3 else "F32"


def _header(weights: Weights, ftype: int) -> bytes:
    """Everything before the tensors: hyper-parameters, mel filters, vocabulary."""
    d = weights.dims
    numbers = [d.n_vocab, d.n_audio_ctx, d.n_audio_state, d.n_audio_head, d.n_audio_layer]
    numbers += [d.n_text_ctx, d.n_text_state, d.n_text_head, d.n_text_layer, d.n_mels, ftype]
    filters = mel_filters("cpu", d.n_mels).float().numpy()
    parts = [struct.pack("<I11i", MAGIC, *numbers), struct.pack("<2i", *filters.shape)]
    parts.append(filters.tobytes())
    tokens = ordinary_tokens(d)
    parts.append(struct.pack("<i", len(tokens)))
    parts += [struct.pack("<i", len(token)) + token for token in tokens]
    return b"".join(parts)


def ordinary_tokens(dims: ModelDimensions) -> list[bytes]:
    """The vocabulary's tokens of text in the order of their ids; special ones are not stored."""
    tokenizer = any_tokenizer(dims)
    return [*token_bytes(tokenizer.encoding)[: tokenizer.eot]]
