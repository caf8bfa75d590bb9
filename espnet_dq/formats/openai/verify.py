"""Is what a `.pt` holds what training's forward pass used? Counted, bit by bit.

Only float32 can hold a grid's values.
"""

from pathlib import Path

import numpy as np

from espnet_dq.errors import WorkError
from espnet_dq.formats import torch_file
from espnet_dq.formats.companions import same
from espnet_dq.formats.openai import read as openai
from espnet_dq.formats.report import (
    BESIDE,
    ON_GRID,
    OTHER,
    Reference,
    Report,
    Row,
    as_numpy,
    differing_values,
    float_row,
    float_types,
    rounding_error,
)
from espnet_dq.whisper.vocabulary import OwnVocabulary, numbers


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of the checkpoint, its dimensions and its kept tokens.

    Raises:
        InputError: no readable checkpoint.
        WorkError: it is another Whisper, or a key is missing or unknown.
    """
    openai.load(path)  # refuses what is no Whisper
    content = torch_file.read(path)
    trimmed = isinstance(reference.dims, OwnVocabulary)
    wanted = {"dims", "model_state_dict"} | ({"kept_tokens"} if trimmed else set())
    wanted |= {"any_window"} if reference.any_window else set()
    tensors = content["model_state_dict"]
    for found, expected in ((content, wanted), (tensors, reference.weights.keys())):
        if odd := sorted(map(str, found.keys() ^ expected)):
            raise WorkError(f"{path}: {odd[0]} is {'unknown' if odd[0] in found else 'missing'}")
    if not same(dict(content["dims"]), numbers(reference.dims)):
        raise WorkError(f"{path}: holds {content['dims']}, expected {reference.dims}")
    rows = []
    for name, weight in reference.weights.items():
        values, expected = as_numpy(tensors[name]), weight.detach().cpu().float().numpy()
        row = float_row(name, values, expected, reference)
        if name in reference.grids:
            row.kind, row.grid = ON_GRID, reference.grids[name]
            if values.dtype == np.float32 and values.shape == expected.shape:
                row.integers = differing_values(values, expected)
                row.error = rounding_error({name: values}, reference.floats)
        rows.append(row)
    if trimmed:
        kept, expected = content["kept_tokens"].numpy(), np.array(reference.dims.kept, np.int32)
        wrong = 0 if np.array_equal(kept, expected) else expected.size
        rows.append(Row("kept_tokens", kept.shape, "int32", 32, kept.nbytes, OTHER, integers=wrong))
    if reference.any_window:
        other = content["any_window"] is not True
        rows.append(Row("any_window", (), "bool", 1, 0, BESIDE, integers=other))
    types = {n: str(t.dtype).removeprefix("torch.") for n, t in tensors.items()}
    return Report([*rows, float_types(types)])
