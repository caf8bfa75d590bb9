"""Changes of one of the two ONNX files."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fuzz_changes.common import REWRITTEN, Change, Unchanged, copy, flipped


def change_of(files: dict[str, str]) -> Change:
    """Of a folder whose sides are in these files."""
    return partial(_change, files)


def _change(
    files: dict[str, str], original: Path, target: Path, dice: random.Random
) -> tuple[str, str]:
    side = dice.choice(sorted(files))
    model = onnx.load(original / files[side])
    graph = model.graph
    branches = [a.g for n in graph.node for a in n.attribute if a.type == a.GRAPH]
    everywhere = [n for g in (graph, *branches) for n in g.node]
    way = dice.choice(["tensor"] * 5 + ["scale"] * 2 + ["attribute"] * 3 + ["node more"] * 4 + [
        "constant"] * 2 + ["node removed", "operator", "inputs swapped", "input elsewhere",
        "metadata", "opset", "input", "tensor removed", "tensor more", "tensor type", "output",
        "shape said", "resaved"])  # fmt: skip
    what = ""
    scales = [t for t in graph.initializer if t.name.endswith(".scale")]
    tensors = [t for t in graph.initializer if not t.name.endswith(".scale")]
    node = dice.choice(graph.node)
    if way in ("tensor", "scale"):
        tensor = dice.choice(tensors if way == "tensor" else scales)
        what = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(flipped(numpy_helper.to_array(tensor), dice),
                                                tensor.name))  # fmt: skip
    elif way == "constant":
        node = dice.choice([n for n in graph.node if n.op_type == "Constant"])
        value = np.array(numpy_helper.to_array(node.attribute[0].t))
        flat = value.reshape(-1)
        at = dice.randrange(flat.size)
        new = dice.choice([0, 1, -1, flat[at] + 1, flat[at] - 1])
        if flat[at] == new:
            raise Unchanged
        flat[at], what = new, node.output[0]
        node.attribute[0].t.CopyFrom(numpy_helper.from_array(value))
    elif way == "attribute":
        nodes = [n for n in everywhere for a in n.attribute if a.type in (1, 2, 7)]
        node = dice.choice(nodes)
        attribute = dice.choice([a for a in node.attribute if a.type in (1, 2, 7)])
        what = f"{node.op_type}.{attribute.name}"
        if attribute.type == 1:
            attribute.f *= dice.choice([2, 0.5, 10, -1])
        elif attribute.type == 2:
            attribute.i += dice.choice([1, -1])
        else:
            at = dice.randrange(len(attribute.ints))
            attribute.ints[at] += dice.choice([1, -1])
    elif way == "node more":
        what = _node_more(graph, dice)
    elif way == "node removed":
        what = node.op_type
        graph.node.remove(node)
    elif way == "operator":
        pairs = {"Add": "Sub", "Mul": "Add", "Gelu": "Relu", "Softmax": "LogSoftmax", "Sub": "Add",
                 "LessOrEqual": "Less"}  # fmt: skip
        nodes = [n for n in everywhere if n.op_type in pairs]
        node = dice.choice(nodes)
        what, node.op_type = node.op_type, pairs[node.op_type]
    elif way == "inputs swapped":
        node = dice.choice([n for n in everywhere if len(n.input) > 1])
        what = node.op_type
        node.input[0], node.input[1] = node.input[1], node.input[0]
        if node.op_type in ("Add", "Mul"):
            raise Unchanged
    elif way == "input elsewhere":
        i = dice.randrange(5, len(graph.node))
        node = graph.node[i]
        if not node.input:
            raise Unchanged
        at = dice.randrange(len(node.input))
        other = dice.choice([o for n in graph.node[:i] for o in n.output])
        what = f"{node.op_type} {node.input[at]}"
        if node.input[at] == other:
            raise Unchanged
        node.input[at] = other
    elif way == "metadata":
        if not model.metadata_props:
            model.metadata_props.add(key="n_vocab", value="1")
        entry = dice.choice(model.metadata_props)
        what = entry.key
        if dice.random() < 0.3:
            model.metadata_props.remove(entry)
        elif dice.random() < 0.3:
            model.metadata_props.add(key=entry.key, value=entry.value + "1")
        else:
            entry.value += "1"
    elif way == "opset":
        model.opset_import[0].version += dice.choice([1, -1, 2])
    elif way == "input":
        value = dice.choice(graph.input)
        what = value.name
        dims = value.type.tensor_type.shape.dim
        dice.choice(dims).dim_value = dice.choice([1, 2, 7, 80])
    elif way == "output":
        what = graph.output[0].name
        graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    elif way == "shape said":  # of a value that has none of its own
        what = dice.choice([name for n in graph.node for name in n.output if name])
        shape = [dice.choice([1, 2, 32, 100]) for _ in range(dice.choice([2, 3]))]
        graph.value_info.append(helper.make_tensor_value_info(what, TensorProto.FLOAT, shape))
    elif way == "tensor removed":
        tensor = dice.choice(graph.initializer)
        what = tensor.name
        graph.initializer.remove(tensor)
    elif way == "tensor more":
        tensor = dice.choice(graph.initializer)
        what = tensor.name
        graph.initializer.add().CopyFrom(tensor)
        if dice.random() < 0.5:
            graph.initializer[-1].name += "x"
    elif way == "tensor type":
        tensor = dice.choice(tensors)
        array = numpy_helper.to_array(tensor)
        what = tensor.name
        dtype = dice.choice([np.float32, np.float16, np.int8, np.float64])
        if array.dtype == dtype:
            raise Unchanged
        with np.errstate(all="ignore"):
            tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), tensor.name))
    else:
        way = REWRITTEN
        model.producer_name, model.doc_string = "somebody", "text"
    copy(original, target, files[side])
    onnx.save(model, target / files[side])
    return way, f"{side} {what}"


def _node_more(graph: onnx.GraphProto, dice: random.Random) -> str:
    """A node between one that is there and those that use it."""
    i = dice.randrange(len(graph.node))
    if dice.random() < 0.3:  # at an output
        i = len(graph.node) - 1 - next(k for k, n in enumerate(reversed(graph.node))
                                       if n.output[0] == graph.output[0].name)  # fmt: skip
    node = graph.node[i]
    name, before = node.output[0], f"{node.output[0]}_before"
    if node.op_type in ("Constant", "Shape", "Range"):
        raise Unchanged
    kind = dice.choice(["Identity", "Neg", "Relu", "Mul", "force"])
    if kind == "force" and name != "logits":
        kind = "Tanh"
    node.output[0] = before
    new = []
    if kind == "Mul":
        factor = numpy_helper.from_array(np.float32(dice.choice([1.0, 1.001, 2])))
        new.append(helper.make_node("Constant", [], ["factor"], value=factor))
        new.append(helper.make_node("Mul", [before, "factor"], [name]))
    elif kind == "force":  # one token is certain from some position on
        bonus = np.zeros(graph.output[0].type.tensor_type.shape.dim[2].dim_value, np.float32)
        bonus[dice.randrange(bonus.size)] = 1e4
        later = np.array([dice.choice([4, 10, 20, 31])], np.int64)
        new += [
            helper.make_node("Constant", [], ["bonus"], value=numpy_helper.from_array(bonus)),
            helper.make_node("Constant", [], ["later"], value=numpy_helper.from_array(later)),
            helper.make_node("GreaterOrEqual", ["offset", "later"], ["is_later"]),
            helper.make_node("Cast", ["is_later"], ["as_number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["bonus", "as_number"], ["given"]),
            helper.make_node("Add", [before, "given"], [name]),
        ]
    else:
        new.append(helper.make_node(kind, [before], [name]))
    for offset, each in enumerate(new, 1):
        graph.node.insert(i + offset, each)
    return f"{kind} after {node.op_type}"
