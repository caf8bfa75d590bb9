"""Is what a Hugging Face folder holds what training's forward pass used? Counted, bit by bit.

The file is read with the safetensors package and NumPy; nothing of `quant/` or `huggingface` is
used. Only float32 can hold a grid's values, so a tensor on a grid in any other type is wrong.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats.hf_names import openai_name, read_dims, read_json
from espnet_dq.formats.parity import (
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    differing_bits,
    float_kind,
    rounding_error,
)
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import numbers


def compare_huggingface(path: Path | str, reference: Reference) -> Report:
    """Compare each tensor of the folder's model.safetensors, and its vocabulary.

    On a grid: the float32 values have to equal the reference's. Other floats: the reference cast
    to the file's type, bit for bit. There are no scales to compare.

    Raises:
        InputError: no readable folder.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    folder = Path(path)
    file = folder / "model.safetensors"
    found = read_dims(read_json(folder / "config.json"), folder / "config.json")
    if numbers(found) != numbers(reference.dims):
        raise WorkError(f"{folder}: holds {found}, expected {reference.dims}")
    try:
        tensors = {_ours(name): values for name, values in load_file(file).items()}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{file}: not readable safetensors of floats ({type(e).__name__})") from e
    if odd := sorted(tensors.keys() ^ reference.weights.keys()):
        raise WorkError(f"{file}: {odd[0]} is {'unknown' if odd[0] in tensors else 'missing'}")
    rows = []
    for name, weight in reference.weights.items():
        values, expected = tensors[name], weight.detach().cpu().float().numpy()
        grid, error = reference.grids.get(name, values.dtype.name), None
        if values.shape != expected.shape or values.dtype.name not in ("float16", "float32"):
            wrong = expected.size
        elif name not in reference.grids:
            wrong = differing_bits(values, expected.astype(values.dtype))
        elif values.dtype.name == "float16":
            wrong = expected.size
        else:
            # The sign of a zero does not count: training may round to -0.0, integers cannot.
            wrong = int(np.count_nonzero(values != expected))
            error = rounding_error({name: values}, reference.floats)
        kind = ON_GRID if name in reference.grids else float_kind(name)
        bits, size = 8 * values.itemsize, values.nbytes
        rows.append(Row(name, values.shape, grid, bits, size, kind, error, wrong))
    return Report([*rows, _vocabulary(folder / "tokenizer.json", reference.dims)])


def _ours(name: str) -> str:
    return openai_name(name) if name.startswith(("model.encoder.", "model.decoder.")) else name


def _vocabulary(path: Path, dims: ModelDimensions) -> Row:
    """Tokens whose id is not openai-whisper's."""
    content = read_json(path)
    encoding = any_tokenizer(dims).encoding
    try:
        found = {token["content"]: token["id"] for token in content["added_tokens"]}
        found |= {_bytes(token): number for token, number in content["model"]["vocab"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError(f"{path}: not a byte-pair tokenizer ({type(e).__name__})") from e
    expected = {**encoding._special_tokens, **encoding._mergeable_ranks}
    wrong = sum(found.get(token) != number for token, number in expected.items())
    wrong += len(found.keys() - expected)
    size = path.stat().st_size
    return Row("vocabulary", (len(found),), "bytes", 8, size, OTHER, integers=wrong)


def _bytes(token: str) -> bytes:
    """The bytes that a token's characters stand for in byte-level BPE (GPT-2's table)."""
    return bytes(_BYTES.get(c, ord(c)) for c in token)


_ODD = [*range(0x21), 0x7F, *range(0x80, 0xA1), 0xAD]  # bytes that print as nothing
_BYTES = {chr(0x100 + i): byte for i, byte in enumerate(_ODD)}
