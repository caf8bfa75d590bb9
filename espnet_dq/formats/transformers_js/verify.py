"""Is what a folder for transformers.js holds what training's forward pass used? Bit by bit.

Tensors and graphs as `espnet_dq.formats.onnx.verify` compares them, settings and tokenizer as
`espnet_dq.formats.hf.verify`.
"""

from pathlib import Path

from espnet_dq.errors import WorkError
from espnet_dq.formats import companions
from espnet_dq.formats.hf import verify as hf_verify
from espnet_dq.formats.hf import write as hf_write
from espnet_dq.formats.hf.names import read_dims, read_json
from espnet_dq.formats.onnx.verify import read, tensor_rows
from espnet_dq.formats.report import BESIDE, Reference, Report, Row
from espnet_dq.formats.transformers_js import files, graph, suffix
from espnet_dq.whisper.vocabulary import numbers

_WINDOW = "preprocessor_config.json"


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
    beside = hf_verify.beside(path, reference, "float32", folders=("onnx",))
    # transformers makes the same of other words there; transformers.js takes it as it is.
    window = companions.settings(path / _WINDOW, hf_write.preprocessor(reference.dims))
    return Report([*rows, row, *(r for r in beside if r.name != _WINDOW), window])
