"""Is what a ggml file holds what training's forward pass used? Counted, bit by bit.

The file is read by `formats.ggml`, which unpacks blocks with the `gguf` package and shares no
code with `quant/` or the writer.
"""

from pathlib import Path

import numpy as np
from whisper.audio import mel_filters

from espnet_dq.errors import WorkError
from espnet_dq.formats.ggml import read as ggml
from espnet_dq.formats.report import (
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    differing_bits,
    differing_values,
    float_row,
    rounding_error,
)
from espnet_dq.whisper.dims import any_tokenizer
from espnet_dq.whisper.vocabulary import token_bytes

CONVOLUTION = "convolution: ggml holds it in float16"


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of the file, its mel filters, vocabulary and ftype.

    Blocks: the dequantized float32 values have to equal the reference's, and the scales the
    reference's, bit for bit. Floats: the reference cast to the file's type, bit for bit.

    Raises:
        InputError: no readable ggml file.
        WorkError: it is another Whisper.
    """
    content = ggml.read(path)
    if content.dims != reference.dims:
        raise WorkError(f"{path}: holds {content.dims}, expected {reference.dims}")
    rows = []
    for name, stored in content.tensors.items():
        expected = reference.weights[name].detach().cpu().float().numpy()
        values, kind = stored.values(), stored.kind.name
        if kind in ("F32", "F16"):
            row = float_row(name, values, expected, reference)
            # whisper.cpp allocates each tensor in the one type that it has in mind for it.
            if kind != _float_type(name, values):
                row.integers = expected.size
            if kind == "F16" and values.ndim == 3:
                row.kind = CONVOLUTION
            rows.append(row)
            continue
        wrong = differing_values(values, expected)
        grid, scales = reference.grids.get(name, "none"), stored.scales()
        if grid.lower() != f"ggml_{kind.lower()}":
            wrong = expected.size
        if name in reference.scales and grid != "none":
            theirs = reference.scales[name].detach().cpu().numpy()
            differing = differing_bits(scales, theirs.astype(np.float16))
        else:
            differing = scales.size
        error = rounding_error({name: values}, reference.floats)
        bits, size = int(kind[1]), stored.raw.nbytes
        rows.append(Row(name, values.shape, grid, bits, size, ON_GRID, error, wrong, differing))
    return Report([*rows, *_constants(content, reference)])


def _float_type(name: str, values: np.ndarray) -> str:
    """whisper.cpp's type of a tensor in float: convolutions and matrices are halved."""
    vector = values.ndim == 1 or name.endswith("positional_embedding")
    return "F32" if vector else "F16"


def _constants(content: ggml.Content, reference: Reference) -> list[Row]:
    """Rows for what is the same in every Whisper of these dimensions."""
    filters = mel_filters("cpu", content.dims.n_mels).float().numpy()
    if filters.shape == content.filters.shape:
        wrong = differing_bits(content.filters, filters)
    else:
        wrong = filters.size
    encoding = any_tokenizer(content.dims).encoding
    ordinary = encoding.n_vocab - len(encoding.special_tokens_set)
    expected = token_bytes(encoding)[:ordinary]
    pairs = zip(content.tokens, expected, strict=False)
    missing = abs(len(content.tokens) - len(expected)) + sum(a != b for a, b in pairs)
    grids = set(reference.grids.values())
    kinds = {g.removeprefix("ggml_").upper() for g in grids} or {"F16"}
    ftype = int(content.ftype not in {ggml.FTYPES.get(kind) for kind in kinds})
    size = sum(map(len, content.tokens)) + 4 * len(content.tokens)
    shape, count = content.filters.shape, (len(content.tokens),)
    return [
        Row("mel filters", shape, "float32", 32, content.filters.nbytes, OTHER, integers=wrong),
        Row("vocabulary", count, "bytes", 8, size, OTHER, integers=missing),
        Row("ftype", (), "int32", 32, 4, OTHER, integers=ftype),
    ]
