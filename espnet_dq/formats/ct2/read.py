"""CTranslate2's Whisper folder, read without CTranslate2 and without our writer.

`bin.verify` stands on this reader, so it shares no code with `write`.

The file's variables are read by `ctranslate2_binary`; here they get openai-whisper's names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os.path import lexists
from pathlib import Path

import numpy as np
import torch
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError
from espnet_dq.formats import json_file
from espnet_dq.formats.ct2.binary import read_variables
from espnet_dq.formats.hf import vocabulary as hf_vocabulary
from espnet_dq.whisper.any_window import read_any_window
from espnet_dq.whisper.generation import of_ctranslate2
from espnet_dq.whisper.vocabulary import added_tokens, arrange
from espnet_dq.whisper.weights import ENCODER_POSITIONS, Weights, is_token

# File's layer -> openai-whisper's layer, or its parts in the order they are stacked.
_BLOCK = {
    "self_attention/layer_norm": ("attn_ln",),
    "self_attention/linear_0": ("attn.query", "attn.key", "attn.value"),
    "self_attention/linear_1": ("attn.out",),
    "attention/layer_norm": ("cross_attn_ln",),
    "attention/linear_0": ("cross_attn.query",),
    "attention/linear_1": ("cross_attn.key", "cross_attn.value"),
    "attention/linear_2": ("cross_attn.out",),
    "ffn/layer_norm": ("mlp_ln",),
    "ffn/linear_0": ("mlp.0",),
    "ffn/linear_1": ("mlp.2",),
}
_TOP = {
    "encoder/conv1": ("encoder.conv1",),
    "encoder/conv2": ("encoder.conv2",),
    "encoder/layer_norm": ("encoder.ln_post",),
    "encoder/position_encodings": (ENCODER_POSITIONS,),
    "decoder/embeddings": ("decoder.token_embedding",),
    "decoder/layer_norm": ("decoder.ln",),
    "decoder/position_encodings": ("decoder.positional_embedding",),
}
_TIME = re.compile(r"<\|\d+\.\d\d\|>")
_LEAF = {"weight": ".weight", "bias": ".bias", "gamma": ".weight", "beta": ".bias", "encodings": ""}


@dataclass(frozen=True)
class Stored:
    """One openai-whisper tensor as it lies in the file.

    Attributes:
        variable: the file's variable that holds it, maybe with others stacked below it.
        values: `(rows, ...)` float16 or float32, or int8 when `scale` is set.
        scale: `(rows,)` float32; the value of row r is `values[r] * (float32(1) / scale[r])`.
    """

    variable: str
    values: np.ndarray
    scale: np.ndarray | None = None

    def dequantize(self) -> np.ndarray:
        """Floats as stored, or integers times the float32 reciprocal of their row's scale."""
        if self.scale is None:
            return self.values
        with np.errstate(all="ignore"):  # what is no number then is found by who asks
            step = (np.float32(1) / self.scale).reshape(-1, *[1] * (self.values.ndim - 1))
            return self.values.astype(np.float32) * step


def load(folder: Path | str) -> Weights:
    """Read a CTranslate2 Whisper folder: floats as stored, int8 weights as float32.

    Raises:
        InputError: no model.bin, another binary version or model kind, a truncated file, a
            variable that is missing, unknown or of the wrong shape.
    """
    path = Path(folder) / "model.bin"
    variables = read_variables(path)
    sizes = read_dims(variables, path)
    state, read = {}, {}
    for name, stored in split(variables, path).items():
        if stored.scale is not None and not np.all(np.isfinite(stored.scale) & (stored.scale > 0)):
            raise InputError(f"{path}: {stored.variable}_scale has a value that is not above 0")
        if not name.endswith(".key.bias"):
            # One copy of what several names stand for: aliases would multiply the file's size.
            key = stored.values.__array_interface__["data"], stored.values.shape
            if key not in read:
                read[key] = torch.from_numpy(np.array(stored.dequantize(), order="C"))
            state[name] = read[key]
        elif np.any(stored.values):
            raise InputError(f"{path}: {stored.variable}: a Whisper's keys have no bias")
    weights = Weights(sizes, state).check(str(path))
    dims, order = read_vocabulary(sizes, path.parent)
    generation, any_window, file = None, False, path.with_name("config.json")
    if lexists(file):
        said = json_file.read(file)
        generation = of_ctranslate2(said, dims, order, sizes.n_vocab, file)
        any_window = read_any_window(said, file)
    weights = replace(weights, dims=dims, generation=generation, any_window=any_window)
    return weights.arranged(order)


def read_dims(variables: Mapping[str, np.ndarray], source: Path | str) -> ModelDimensions:
    """Model dimensions from the shapes and head counts in the file."""

    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in variables:
            raise InputError(f"{source}: {name} is missing")
        if variables[name].ndim != rank:
            raise InputError(f"{source}: {name} has rank {variables[name].ndim}, expected {rank}")
        return variables[name].shape

    def layers(side: str) -> int:
        return len({n.split("/")[1] for n in variables if re.match(rf"{side}/layer_\d+/", n)})

    for side in ("encoder", "decoder"):
        shape(f"{side}/num_heads", 0)
        if not np.issubdtype(variables[f"{side}/num_heads"].dtype, np.integer):
            raise InputError(f"{source}: {side}/num_heads is not an integer")
    audio_ctx, audio_state = shape("encoder/position_encodings/encodings", 2)
    text_ctx, text_state = shape("decoder/position_encodings/encodings", 2)
    return ModelDimensions(
        n_mels=shape("encoder/conv1/weight", 3)[1],
        n_audio_ctx=audio_ctx,
        n_audio_state=audio_state,
        n_audio_head=int(variables["encoder/num_heads"]),
        n_audio_layer=layers("encoder"),
        n_vocab=shape("decoder/embeddings/weight", 2)[0],
        n_text_ctx=text_ctx,
        n_text_state=text_state,
        n_text_head=int(variables["decoder/num_heads"]),
        n_text_layer=layers("decoder"),
    )


def read_vocabulary(dims: ModelDimensions, folder: Path) -> tuple[ModelDimensions, list[int]]:
    """`dims` with the tokens beside model.bin, and their rows, as `vocabulary.arrange`.

    Without a list of tokens its size says which vocabulary it is. Raises `InputError`.
    """
    if lexists(path := folder / "vocabulary.json"):
        tokens = _read_tokens(path)
    elif lexists(path := folder / "vocabulary.txt"):  # as older converters wrote it
        tokens = json_file.lines(path)
    else:
        return dims, [*range(dims.n_vocab)]
    named: dict[str, int] = {}
    for row, token in enumerate(tokens):  # converters name rows that pad an embedding as times
        if token not in named:
            named[token] = row
        elif not _TIME.fullmatch(token):
            raise InputError(f"{path}: {token!r} is there twice")
    by_row = {row: token for token, row in named.items()}
    found, order = arrange(dims, by_row, (), str(path))
    if added_tokens(found) and lexists(folder / "tokenizer.json"):  # which says what is no text
        special = hf_vocabulary.special_tokens(folder / "tokenizer.json")
        found, order = arrange(dims, by_row, special, str(path))
    return found, order


def _read_tokens(path: Path) -> list[str]:
    tokens = json_file.read(path)
    if not isinstance(tokens, list) or not all(map(is_token, tokens)):
        raise InputError(f"{path}: not a list of tokens")
    return tokens


def split(variables: Mapping[str, np.ndarray], source: Path | str) -> dict[str, Stored]:
    """openai-whisper's name -> where and how the file holds it; fused projections are taken apart.

    Numbers (rank 0) are settings, not weights, and are left out, as is the output projection,
    which has to be the token embedding. A key projection has no bias in openai-whisper; the
    file's is returned as `...key.bias` and should be zeros.

    Raises:
        InputError: a variable that no Whisper has, a scale that is missing or does not fit.
    """
    found: dict[str, Stored] = {}
    for variable, values in variables.items():
        layer, _, leaf = variable.rpartition("/")
        if layer == "decoder/projection":
            if values is not variables.get(f"decoder/embeddings/{leaf}"):
                raise InputError(f"{source}: {variable} is not tied to the token embedding")
            continue
        if values.ndim == 0 or leaf == "weight_scale":
            continue
        parts = _parts(layer)
        if not parts or leaf not in _LEAF:
            raise InputError(f"{source}: {variable} is not a Whisper's variable")
        scale = _scale(variables, variable, source)
        if len(values) % len(parts):
            raise InputError(f"{source}: {variable}: {len(values)} rows are not {len(parts)} parts")
        rows = len(values) // len(parts)
        for i, part in enumerate(parts):
            cut = slice(i * rows, (i + 1) * rows)
            piece = Stored(variable, values[cut], None if scale is None else scale[cut])
            found[part + _LEAF[leaf]] = piece
    return found


def _parts(layer: str) -> tuple[str, ...]:
    """openai-whisper's layers in one of the file's layers, or nothing if it is unknown."""
    if layer in _TOP:
        return _TOP[layer]
    side, _, rest = layer.partition("/layer_")
    number, _, inner = rest.partition("/")
    if side not in ("encoder", "decoder") or not number.isdecimal():
        return ()
    return tuple(f"{side}.blocks.{number}.{part}" for part in _BLOCK.get(inner, ()))


def _scale(
    variables: Mapping[str, np.ndarray], variable: str, source: Path | str
) -> np.ndarray | None:
    """The scales of an integer variable, one a row (all the same in int16), or None for floats."""
    values, scale = variables[variable], variables.get(f"{variable}_scale")
    if values.dtype in (np.float16, np.float32):
        if scale is not None:
            raise InputError(f"{source}: {variable} holds floats but has scales")
        return None
    if values.dtype == np.int16 and scale is not None and scale.shape == ():
        scale = np.full(len(values), scale)
    elif values.dtype != np.int8:
        raise InputError(f"{source}: {variable} holds {values.dtype}, which is not read here")
    if scale is None:
        raise InputError(f"{source}: {variable}_scale is missing")
    if scale.dtype != np.float32 or scale.shape != values.shape[:1]:
        raise InputError(f"{source}: {variable}_scale does not hold a float32 for each row")
    return scale
