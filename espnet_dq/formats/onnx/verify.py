"""Is what an ONNX folder holds what training's forward pass used? Counted, bit by bit.

The tensors are read here with the `onnx` package alone; no code is shared with `quant/`, the writer
of tensors or its reader. A right weight can still be used wrongly, so all else in both files, nodes
and their attributes, inputs, outputs and metadata, has to be what `onnx_graph` builds for the same
model; what that computes, `logits` runs.
"""

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import Message
from onnx import numpy_helper
from whisper.model import ModelDimensions

from espnet_dq.errors import InputError, WorkError
from espnet_dq.formats import companions, json_file
from espnet_dq.formats.onnx import graph as onnx_graph
from espnet_dq.formats.onnx import write as onnx_writer
from espnet_dq.formats.onnx.graph import Stored
from espnet_dq.formats.onnx.wire import read_model
from espnet_dq.formats.report import (
    BESIDE,
    ON_GRID,
    Reference,
    Report,
    Row,
    differing_bits,
    differing_values,
    float_row,
    float_types,
    rounding_error,
)
from espnet_dq.whisper.dims import weight_shapes

_SIDES = ("encoder", "decoder")


def compare(path: Path, reference: Reference) -> Report:
    """Compare each tensor of both files, their graphs, the metadata and tokens.txt.

    Integers times scales have to equal the reference's float32 values, and the scales the
    reference's, bit for bit. Floats: the reference cast to the file's type, bit for bit. Of the
    rest what no runtime heeds may differ: who wrote it, its descriptions, and shapes that follow
    from the graph.

    Raises:
        InputError: no readable ONNX folder.
        WorkError: it is another Whisper, or a tensor is missing or unknown.
    """
    models = {side: read(path / f"{side}.onnx") for side in _SIDES}
    rows, _ = tensor_rows(path, models, reference, onnx_graph)
    rows += [_metadata(side, models[side], reference) for side in _SIDES]
    return Report([*rows, *_companions(path, reference.dims)])


def tensor_rows(
    path: Path, models: dict[str, onnx.ModelProto], reference: Reference, graphs: object
) -> tuple[list[Row], str]:
    """The rows of all tensors, their types and the graphs, and the type of what is on no grid.

    Args:
        path: the folder, for errors.
        models: `encoder` and `decoder`.
        reference: what they should hold.
        graphs: what builds both graphs: its `encoder` and `decoder`.
    """
    stored = {
        tensor.name: tensor for model in models.values() for tensor in model.graph.initializer
    }
    on_grid = {name for name in reference.weights if f"{name}.scale" in stored}
    wanted = {*reference.weights, *(f"{name}.scale" for name in on_grid)}
    if odd := sorted(wanted ^ stored.keys()):
        raise WorkError(f"{path}: {odd[0]} is {'missing' if odd[0] in wanted else 'unknown'}")
    if len(stored) != sum(len(model.graph.initializer) for model in models.values()):
        raise WorkError(f"{path}: a tensor is stored twice")
    rows, types, blocks = [], {}, {}
    for name, weight in reference.weights.items():
        expected = weight.detach().cpu().float().numpy()
        values = _values(stored[name], path)
        if name in on_grid and values.dtype == np.uint8:
            scale = _values(stored[f"{name}.scale"], path)
            row, blocks[name] = _in_blocks(name, values, scale, expected, reference, path)
            rows.append(row)
            continue
        size, grid = values.nbytes, reference.grids.get(name, "none")
        # Linear layers are stored for x W: [in, out].
        turned = ".blocks." in name and values.ndim == 2
        if values.shape != (expected.T if turned else expected).shape:
            raise WorkError(f"{path}: {name} has shape {values.shape}, of {expected.shape}")
        values = values.T if turned else values
        if name not in on_grid:
            rows.append(float_row(name, values, expected, reference))
            types[name] = values.dtype.name
            continue
        scale = _values(stored[f"{name}.scale"], path)
        if values.dtype != np.int8 or scale.dtype != np.float32 or scale.size != len(expected):
            raise WorkError(f"{path}: {name} is not int8 with a float32 scale for each row")
        each = scale.reshape(-1, *[1] * (expected.ndim - 1))
        dequantized = values.astype(np.float32) * each
        wrong = differing_values(dequantized, expected)
        if grid == "onnx_int8":
            theirs = reference.scales[name].detach().cpu().float().numpy()
            differing = differing_bits(scale.ravel(), theirs.ravel())
        else:
            wrong, differing = expected.size, scale.size
        error, size = rounding_error({name: dequantized}, reference.floats), size + scale.nbytes
        rows.append(Row(name, values.shape, grid, 8, size, ON_GRID, error, wrong, differing))
    rows.append(float_types(types))
    dtype = np.dtype(next(iter(types.values())))
    if rows[-1].integers == 0:
        like = _empty(reference.dims, on_grid, blocks, dtype)
        for side, model in models.items():
            expected = onnx_writer.model(getattr(graphs, side)(reference.dims, like), {})
            rows.append(_graph(side, model, expected))
    return rows, dtype.name


def _companions(folder: Path, dims: ModelDimensions) -> list[Row]:
    """Rows for the files of an ONNX folder beside the graphs."""
    path = folder / "tokens.txt"
    wrong = (
        [] if json_file.lines(path) == onnx_writer.tokens_txt(dims).splitlines() else ["the tokens"]
    )
    return [
        companions.text_row(path, wrong),
        companions.files(folder, {"encoder.onnx", "decoder.onnx", path.name}),
    ]


def read(path: Path) -> onnx.ModelProto:
    """The model in a file, all of whose words are text; raises `InputError`."""
    model = read_model(path)
    if not _is_text(model):
        raise InputError(f"{path}: not a readable ONNX model (a name that is not UTF-8)")
    return model


def _is_text(message: Message) -> bool:
    """Whether all words in a message are: protobuf gives others as bytes."""
    for field, value in message.ListFields():
        each = [value] if isinstance(value, Message | str | bytes) else value
        if field.type == field.TYPE_MESSAGE and not all(map(_is_text, each)):
            return False
        if field.type == field.TYPE_STRING and any(isinstance(x, bytes) for x in each):
            return False
    return True


def _in_blocks(
    name: str, values: np.ndarray, scale: np.ndarray, expected: np.ndarray,
    reference: Reference, path: Path,
) -> tuple[Row, int]:  # fmt: skip
    """The row of a matrix in blocks of 32 columns, [rows, blocks, bytes], and its bits."""
    bits = values.shape[-1] // 4 if values.ndim == 3 else 0
    if (
        bits not in (4, 8)
        or expected.ndim != 2
        or values.shape[:2] != (len(expected), expected.shape[1] / 32)
        or scale.dtype != np.float16
        or scale.shape != values.shape[:2]
    ):
        raise WorkError(f"{path}: {name} is not in blocks of 32 with a float16 scale each")
    # One number a bit of the byte's halves, the lower half first, less the middle of their range.
    halves = [values] if bits == 8 else [values % 16, values // 16]
    integers = np.stack(halves, axis=-1).astype(np.float32) - np.float32(2 ** (bits - 1))
    dequantized = integers.reshape(*scale.shape, 32) * scale.astype(np.float32)[:, :, None]
    dequantized = dequantized.reshape(expected.shape)
    wrong, grid = differing_values(dequantized, expected), reference.grids.get(name, "none")
    if grid == f"ggml_q{bits}_0":
        theirs = reference.scales[name].detach().cpu().numpy()
        differing = differing_bits(scale.ravel(), theirs.ravel())
    else:
        wrong, differing = expected.size, scale.size
    error = rounding_error({name: dequantized}, reference.floats)
    size = values.nbytes + scale.nbytes
    return Row(name, expected.shape, grid, bits, size, ON_GRID, error, wrong, differing), bits


def _graph(side: str, model: onnx.ModelProto, expected: onnx.ModelProto) -> Row:
    """The row for all of a file but the values of its tensors and its metadata."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    wrong = _shapes(found, expected) + _tensors(found.graph, expected.graph)
    for each in (found, expected):
        _clear(each)
    names = [f"{node.op_type} {node.output[0] if node.output else ''}" for node in found.graph.node]
    nodes = [node.SerializeToString(deterministic=True) for node in found.graph.node]
    wanted = [node.SerializeToString(deterministic=True) for node in expected.graph.node]
    wrong += [name for name, node, other in zip(names, nodes, wanted, strict=False)
              if node != other]  # fmt: skip
    if len(nodes) != len(wanted):
        wrong.append(f"{len(nodes)} nodes instead of {len(wanted)}")
    if not wrong and found.SerializeToString(deterministic=True) != expected.SerializeToString(
        deterministic=True
    ):
        wrong.append("inputs, outputs, operator sets or what else a model may hold")
    note = f"{', '.join(wrong[:3])}: not as the writer's" if wrong else ""
    return Row(f"{side} graph", (len(nodes),), "nodes", 8, model.ByteSize(), BESIDE,
               integers=len(wrong), note=note)  # fmt: skip


def _empty(
    dims: ModelDimensions, on_grid: set[str], blocks: dict[str, int], dtype: np.dtype
) -> dict[str, Stored]:
    """Tensors of these shapes and types: a graph depends on no more."""
    found = {}
    for name, shape in weight_shapes(dims).items():
        if name in blocks:
            scale = np.zeros((shape[0], shape[1] // 32), np.float16)
            found[name] = Stored(np.zeros(shape, np.int8), scale, blocks[name])
        elif name in on_grid:
            found[name] = Stored(np.zeros(shape, np.int8), np.zeros(shape[0], np.float32))
        else:
            found[name] = Stored(np.zeros(shape, dtype))
    return found


def _shapes(found: onnx.ModelProto, expected: onnx.ModelProto) -> list[str]:
    """Values of which a file says another type or shape than follows from the graph.

    ONNX Runtime believes it, and has computed with it before it hears audio of another length.
    """
    if not found.graph.value_info:
        return []
    inferred = onnx.shape_inference.infer_shapes(expected).graph.value_info
    known = {value.SerializeToString(deterministic=True) for value in inferred}
    said = found.graph.value_info
    return [
        value.name for value in said if value.SerializeToString(deterministic=True) not in known
    ]


def _tensors(found: onnx.GraphProto, expected: onnx.GraphProto) -> list[str]:
    """Initializers that are not as they should be, but for their values; all are removed."""
    headers = []
    for graph in (found, expected):
        table = {}
        for tensor in graph.initializer:
            tensor.ClearField("raw_data")
            tensor.ClearField("doc_string")
            table[tensor.name] = tensor.SerializeToString(deterministic=True)
        headers.append(table)
        del graph.initializer[:]
    theirs, ours = headers
    return sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) !=
                  ours.get(name))  # fmt: skip


def _clear(model: onnx.ModelProto) -> None:
    """Remove what no runtime heeds, and what is compared apart: metadata and shapes."""
    for key in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        model.ClearField(key)
    del model.metadata_props[:]
    model.graph.ClearField("doc_string")
    model.graph.ClearField("name")
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("name")
        node.attribute.sort(key=lambda attribute: attribute.name)


def _metadata(side: str, model: onnx.ModelProto, reference: Reference) -> Row:
    """The row of a file's metadata, from which sherpa-onnx takes dimensions and tokens."""
    entries = [(entry.key, entry.value) for entry in model.metadata_props]
    found = dict(entries)
    expected = onnx_writer.sherpa_metadata(reference.dims, reference.any_window)
    wrong = companions.differing_keys(found, expected)
    wrong += ["a key that is there twice"] * (len(entries) != len(found))
    size = sum(len(str(value)) for value in found.values())
    return Row(f"{side} metadata", (len(found),), "text", 8, size, BESIDE, integers=len(wrong),
               note=companions.differs(wrong))  # fmt: skip


def _values(tensor: onnx.TensorProto, path: Path) -> np.ndarray:
    """A tensor's values, stored as bytes: readers differ in what they take of two kinds."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise InputError(f"{path}: {tensor.name} lies in another file, which is not read")
    if not tensor.HasField("raw_data"):
        raise InputError(f"{path}: {tensor.name} is not stored as bytes")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path}: {tensor.name} is damaged ({type(e).__name__})") from e
