"""Is what a folder for transformers.js holds what training's forward pass used? Bit by bit.

Tensors and graphs as `espnet_dq.formats.onnx.verify` compares them. transformers makes the same of
many settings and tokenizers that transformers.js takes as they are, so these are compared key by
key.
"""

from pathlib import Path

from espnet_dq.errors import WorkError
from espnet_dq.formats import companions
from espnet_dq.formats.hf.names import read_dims, read_json
from espnet_dq.formats.hf.write import beside
from espnet_dq.formats.onnx.verify import read, tensor_rows
from espnet_dq.formats.report import BESIDE, Reference, Report, Row
from espnet_dq.formats.transformers_js import files, graph, suffix
from espnet_dq.whisper.vocabulary import numbers


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of both files, their graphs, and every file beside them.

    Raises:
        InputError: no readable folder.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    found = read_dims(read_json(path / "config.json"), path / "config.json")
    if numbers(found) != numbers(reference.dims):
        raise WorkError(f"{path}: holds {found}, expected {reference.dims}")
    models = {side: read(file) for side, file in files(path).items()}
    rows, _ = tensor_rows(path, models, reference, graph)
    for side, model in models.items():
        more = len(model.metadata_props)
        rows.append(Row(f"{side} metadata", (more,), "text", 8, 0, BESIDE, integers=more))
    names = {file.name for file in files(path).values()}
    end = suffix({*reference.grids.values()})
    row = companions.files(path / "onnx", names)
    if any(not name.endswith(f"model{end}.onnx") and not name.endswith(f"merged{end}.onnx")
           for name in names):  # fmt: skip
        row.integers, row.note = row.integers + 1, f"{min(names)} is named after another grid"
    row.name = "onnx"
    wanted = beside(reference, "float32")
    rows += [row, companions.files(path, wanted, folders=("onnx",))]
    rows += [companions.settings(path / name, text) for name, text in wanted.items()]
    return Report(rows)
