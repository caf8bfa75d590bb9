"""Is what a folder for transformers.js holds what training's forward pass used? Bit by bit.

Tensors and graphs as `espnet_dq.formats.onnx.verify` compares them. transformers makes the same of
many settings and tokenizers that transformers.js takes as they are, so these are compared key by
key.
"""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

from espnet_dq.errors import WorkError
from espnet_dq.formats import companions
from espnet_dq.formats.hf.names import read_dims, read_json
from espnet_dq.formats.hf.write import beside
from espnet_dq.formats.onnx.verify import read, tensor_rows
from espnet_dq.formats.report import BESIDE, Reference, Report, Row
from espnet_dq.formats.transformers_js import files, graph, has_half, names
from espnet_dq.whisper.vocabulary import numbers


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of all graphs, the graphs, and every file beside them.

    Raises:
        InputError: no readable folder.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    found = read_dims(read_json(path / "config.json"), path / "config.json")
    if numbers(found) != numbers(reference.dims):
        raise WorkError(f"{path}: holds {found}, expected {reference.dims}")
    rows, found, expected = [], set(), set()
    for half in (False, True) if has_half(path) else (False,):
        rows += _pair(path, reference, half)
        found |= {file.name for file in files(path, half).values()}
        expected |= {*names(reference.grids, half).values()}
    row = companions.files(path / "onnx", found)
    if odd := sorted(found - expected):
        row.integers, row.note = row.integers + 1, f"{odd[0]} is named after another grid"
    row.name = "onnx"
    wanted = beside(reference, "float32")
    rows += [row, companions.files(path, wanted, folders=("onnx",))]
    rows += [companions.settings(path / name, text) for name, text in wanted.items()]
    return Report(rows)


def _pair(path: Path, reference: Reference, half: bool) -> list[Row]:
    """The rows of encoder and decoder; `half`: of those that compute in float16."""
    models = {side: read(file) for side, file in files(path, half).items()}
    graphs = SimpleNamespace(**{side: partial(getattr(graph, side), half=half) for side in models})
    rows, dtype = tensor_rows(path, models, reference, graphs)
    if half and dtype != "float16":
        raise WorkError(f"{path}: what computes in float16 is stored in {dtype}")
    for side, model in models.items():
        more = len(model.metadata_props)
        rows.append(Row(f"{side} metadata", (more,), "text", 8, 0, BESIDE, integers=more))
    for row in rows if half else ():
        row.name += " in float16"
    return rows
