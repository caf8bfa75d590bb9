"""Is what a CTranslate2 file holds what training's forward pass used? Counted, bit by bit.

The file is read by `formats.ct2.read`, which shares no code with `quant` or the writer.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from whisper.model import ModelDimensions

from espnet_dq.errors import WorkError
from espnet_dq.formats import companions, json_file
from espnet_dq.formats.ct2 import CTranslate2, config
from espnet_dq.formats.ct2 import read as ctranslate2
from espnet_dq.formats.ct2.binary import read, read_variables
from espnet_dq.formats.ct2.read import Stored
from espnet_dq.formats.report import (
    BESIDE,
    ON_GRID,
    OTHER,
    SCALES,
    Reference,
    Report,
    Row,
    cast,
    differing_bits,
    differing_values,
    float_kind,
    float_types,
    rounding_error,
)
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import numbers, token_strings

REVISION = 3  # of CTranslate2's specification of a Whisper
# The numbers in a Whisper's file that are settings, and their types; the runtime has defaults of
# its own for what is missing. The head counts come from the dimensions.
_SETTINGS = {
    "decoder/activation": (3, "int8"),  # GELU
    "decoder/alibi": (0, "int8"),
    "decoder/alibi_use_positive_positions": (0, "int8"),
    "decoder/alignment_heads": (1, "int16"),
    "decoder/alignment_layer": (-1, "int16"),
    "decoder/pre_norm": (1, "int8"),
    "decoder/scale_alibi": (0, "int8"),
    "decoder/scale_embeddings": (0, "int8"),
    "decoder/start_from_zero_embedding": (0, "int8"),
}
_NORM, _AFFINE = ("gamma", "beta"), ("weight", "bias")


def compare(folder: Path, reference: Reference) -> Report:
    """Compare model.bin and all files beside it; raises as `compare_weights`."""
    report = compare_weights(folder / "model.bin", reference)
    report.rows += _companions(folder, reference)
    return report


def compare_weights(path: Path, reference: Reference) -> Report:
    """Compare each variable of a model.bin with the training model.

    int8: `integer * (float32(1) / scale)` has to equal the reference's float32 value, and the
    scale the reference's, bit for bit. Floats: the reference cast to the file's type, bit for
    bit. Settings: the value.

    Raises:
        InputError: no readable file, or it does not have a Whisper's layout.
        WorkError: it is another Whisper: other dimensions, or a variable is missing or unknown.
    """
    content = read(path)
    variables = read_variables(path)
    sizes = ctranslate2.read_dims(variables, path)
    found, order = ctranslate2.read_vocabulary(sizes, path.parent)
    if found != reference.dims or numbers(found) != numbers(sizes):
        raise WorkError(f"{path}: holds {found}, expected {reference.dims}")
    if order != [*range(found.n_vocab)]:
        raise WorkError(f"{path}: its tokens are not in the order of the reference's")
    if odd := sorted(_names(variables, reference.dims) ^ variables.keys()):
        raise WorkError(f"{path}: {odd[0]} is {'unknown' if odd[0] in variables else 'missing'}")
    pieces = ctranslate2.split(variables, path)

    parts: dict[str, dict[str, Stored]] = {}
    for name, stored in pieces.items():
        parts.setdefault(stored.variable, {})[name] = stored
    rows, sizes = {}, _sizes(variables)
    for variable, stored in parts.items():
        values, name = variables[variable], next(iter(stored))
        row = Row(variable, values.shape, values.dtype.name, 8 * values.itemsize, sizes[variable],
                  float_kind(name))  # fmt: skip
        row.integers = sum(_differing(n, each, reference, path) for n, each in stored.items())
        rows[variable] = row
        if stored[name].scale is None:
            continue
        row.kind, row.grid = ON_GRID, reference.grids.get(name, "none")
        row.error = rounding_error(
            {n: each.dequantize() for n, each in stored.items()}, reference.floats
        )
        scale = f"{variable}_scale"
        differing = sum(_differing_scales(n, each, reference) for n, each in stored.items())
        rows[scale] = Row(
            scale, variables[scale].shape, "float32", 32, sizes[scale], SCALES, scales=differing
        )
    for name, value in variables.items():
        if value.ndim == 0:
            rows[name] = _setting(name, value, reference.dims, sizes[name])
    types = {
        name: "bfloat16" if name in content.bfloat16 else variables[name].dtype.name
        for name, row in rows.items()
        if row.kind not in (ON_GRID, SCALES) and variables[name].ndim
    }
    revision = Row("revision", (), "int32", 32, 0, BESIDE, integers=content.revision != REVISION)
    return Report([*(rows[name] for name in sorted(rows)), float_types(types), revision])


def _companions(folder: Path, reference: Reference) -> list[Row]:
    """Rows for all files of a CTranslate2 folder but model.bin."""
    dims = reference.dims
    wanted = config.companions(dims, reference.generation, reference.any_window)
    words = folder / "vocabulary.json"
    if words.is_file() or not (folder / "vocabulary.txt").is_file():
        tokens = companions.settings(words, wanted[words.name])
    else:  # as older converters wrote it
        words, strings = folder / "vocabulary.txt", token_strings(any_tokenizer(dims).encoding)
        wrong = [] if json_file.lines(words) == strings else ["the tokens"]
        tokens = companions.text_row(words, wrong)
    return [
        *(
            companions.settings(folder / name, wanted[name])
            for name in ("config.json", "preprocessor_config.json")
        ),
        tokens,
        companions.tokenizer(folder / "tokenizer.json", wanted["tokenizer.json"]),
        companions.files(folder, {*CTranslate2.folder.files} - {"vocabulary.json"} | {words.name}),
    ]


def _names(variables: Mapping[str, np.ndarray], dims: ModelDimensions) -> set[str]:
    """The variables of a Whisper of these dimensions; those that are int8 have scales, too."""
    names = {*_SETTINGS, "encoder/num_heads", "decoder/num_heads", "decoder/projection/weight"}
    names |= {f"{side}/position_encodings/encodings" for side in ("encoder", "decoder")}
    layers = ["encoder/conv1", "encoder/conv2", "encoder/layer_norm", "decoder/layer_norm"]
    inner = ["self_attention/layer_norm", "self_attention/linear_0", "self_attention/linear_1"]
    inner += ["ffn/layer_norm", "ffn/linear_0", "ffn/linear_1"]
    cross = [f"attention/{part}" for part in ("layer_norm", "linear_0", "linear_1", "linear_2")]
    for side, count, each in (
        ("encoder", dims.n_audio_layer, inner),
        ("decoder", dims.n_text_layer, inner + cross),
    ):
        layers += [f"{side}/layer_{n}/{part}" for n in range(count) for part in each]
    for layer in layers:
        leaves = _NORM if layer.endswith("layer_norm") else _AFFINE
        names |= {f"{layer}/{leaf}" for leaf in leaves}
    names.add("decoder/embeddings/weight")
    integers = {n for n in names if n in variables and variables[n].ndim > 1}
    return names | {f"{n}_scale" for n in integers if variables[n].dtype == np.int8}


def _differing(name: str, stored: Stored, reference: Reference, path: Path | str) -> int:
    expected = _expected(name, stored, reference, path)
    if stored.scale is not None:
        return differing_values(stored.dequantize(), expected)
    if name in reference.grids:  # should have been integers
        return expected.size
    return differing_bits(stored.values, cast(expected, stored.values.dtype))


def _expected(name: str, stored: Stored, reference: Reference, path: Path | str) -> np.ndarray:
    """The reference's float32 values for a piece; keys have no bias, which is a bias of 0."""
    if name.endswith(".key.bias"):
        return np.zeros(stored.values.shape, np.float32)
    if name not in reference.weights:
        raise WorkError(f"{path}: {name} is not in the reference")
    expected = reference.weights[name].detach().cpu().float().numpy()
    if expected.shape != stored.values.shape:
        raise WorkError(
            f"{path}: {name} has shape {stored.values.shape}, expected {expected.shape}"
        )
    return expected


def _differing_scales(name: str, stored: Stored, reference: Reference) -> int:
    if name not in reference.scales:  # a tensor that training did not put on a grid
        return stored.scale.size
    return differing_bits(stored.scale, reference.scales[name].detach().cpu().float().numpy())


def _setting(name: str, value: np.ndarray, dims: ModelDimensions, size: int) -> Row:
    heads = {"encoder/num_heads": dims.n_audio_head, "decoder/num_heads": dims.n_text_head}
    settings = _SETTINGS | {name: (count, "int16") for name, count in heads.items()}
    expected, dtype = settings[name]
    wrong = int(value != expected or value.dtype.name != dtype)
    return Row(name, (), value.dtype.name, 8 * value.itemsize, size, OTHER, integers=wrong)


def _sizes(variables: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Bytes of each variable; 0 for an alias, whose data is another variable's."""
    seen: set[int] = set()
    sizes = {}
    for name, values in variables.items():
        sizes[name] = 0 if id(values) in seen else values.nbytes
        seen.add(id(values))
    return sizes
