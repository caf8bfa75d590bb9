"""One change at random to a written model, for `fuzz_verify.py`.

A change is a function (original, target, dice) -> (kind, what): it makes `target`, a copy of the
original that differs in one thing. Files are edited with the packages of their formats or byte by
byte, never with our own writers. `Unchanged`: the dice chose something that changes nothing.
"""

import json
import os
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open

from espnet_dq.formats.ct2.binary import read
from espnet_dq.formats.ggml import read as ggml

REWRITTEN = "rewritten, nothing changed"
Change = Callable[[Path, Path, random.Random], tuple[str, str]]


class Unchanged(Exception):
    """Try again."""


def copy(original: Path, target: Path, without: str = "") -> None:
    """Links to all files of a folder but one, or to nothing of a file: that one is written anew."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if original.is_dir():
        target.mkdir()
        for file in original.iterdir():
            if file.name != without:
                os.link(file, target / file.name)


def new_number(value: float, dice: random.Random) -> float:
    """Another number: a near one, its negative, an odd one."""
    integer = isinstance(value, int)
    options = [value + 1, value - 1, -value, 0, value * 2, value + 7, 1]
    options += [] if integer else [value * 1.001, value * 1.5]
    options = [o for o in options if o != value]
    return type(value)(dice.choice(options))


# --- JSON -----------------------------------------------------------------------------------------

_KEYS = ("dropout", "suppress_tokens", "forced_decoder_ids", "transformers_weights", "max_length",
         "no_repeat_ngram_size", "repetition_penalty", "num_beams", "do_sample", "dither",
         "suppress_ids", "unk_token", "padding_side", "add_prefix_space", "torch_dtype", "dtype",
         "quantization_config", "begin_suppress_tokens", "x")  # fmt: skip


def _json(name: str) -> Change:
    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        text = (original / name).read_text(encoding="utf-8")
        content = json.loads(text)
        kind = f"{name}: "
        if dice.random() < 0.06:
            copy(original, target, name)
            style = dice.choice([{"indent": 2}, {"sort_keys": isinstance(content, dict)},
                                 {"ensure_ascii": True}])  # fmt: skip
            new = json.dumps(content, **{"ensure_ascii": False} | style)
            (target / name).write_text(new, encoding="utf-8")
            return REWRITTEN, f"{name} {style}"
        table, path = content, [name]
        while True:
            where = dice.choice([*table] if isinstance(table, dict) else range(len(table)))
            path.append(str(where)[:30])
            value = table[where]
            if not isinstance(value, dict | list) or not value or dice.random() < 0.3:
                break
            table = value
        way = dice.choice(["value", "value", "value", "remove", "add", "swap"])
        if way == "remove":
            del table[where]
        elif way == "add":
            if isinstance(table, dict):
                table[dice.choice(_KEYS)] = dice.choice([1, 0.5, True, None, [220], "relu", {}])
            else:
                table.insert(where, value if dice.random() < 0.5 else 7)
        elif way == "swap":
            other = dice.choice([*table] if isinstance(table, dict) else range(len(table)))
            table[where], table[other] = table[other], value
        else:
            table[where] = _other(value, dice)
        new = json.dumps(content, ensure_ascii=False)
        if json.loads(new) == json.loads(text) and new == json.dumps(
            json.loads(text), ensure_ascii=False
        ):
            raise Unchanged
        copy(original, target, name)
        (target / name).write_text(new, encoding="utf-8")
        return kind + way, "/".join(path[1:])

    return change


def _other(value: object, dice: random.Random) -> object:
    if isinstance(value, bool):
        return dice.choice([not value, int(value), None])
    if isinstance(value, int | float):
        return dice.choice([new_number(value, dice)] * 4 + [None, str(value), value + 0.5])
    if isinstance(value, str):
        return dice.choice([value + "x", value[::-1], "", value.upper(), None])
    if isinstance(value, list):
        return dice.choice([value[::-1], value[:-1], [*value, 1], [], None])
    if isinstance(value, dict):
        return dice.choice([{}, None, dict(list(value.items())[:-1])])
    return dice.choice([0, 1, True, "", [1]])


def _twice(name: str) -> Change:
    """A key that stands twice: some readers take the first, some the last."""

    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        text = (original / name).read_text(encoding="utf-8")
        content = json.loads(text)
        if not isinstance(content, dict):
            raise Unchanged
        key = dice.choice([*content])
        extra = json.dumps({key: _other(content[key], dice)})[1:-1]
        body = text.strip()
        new = "{" + extra + "," + body[1:] if dice.random() < 0.5 else body[:-1] + "," + extra + "}"
        copy(original, target, name)
        (target / name).write_text(new, encoding="utf-8")
        return f"{name}: a key twice", key

    return change


# --- files ----------------------------------------------------------------------------------------

_MORE = ("vocabulary.txt", "vocab.json", "merges.txt", "special_tokens_map.json", "normalizer.json",
         "added_tokens.json", "processor_config.json", "model.safetensors.index.json",
         "preprocessor_config.json", "generation_config.json", "adapter_config.json", "modeling.py",
         "encoder.onnx.data", "model.bin.1", "hallucination.json", "chat_template.jinja",
         "config.ini", "shared_vocabulary.json", "tokens.txt.bak")  # fmt: skip


def _file(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    names = sorted(p.name for p in original.iterdir())
    name, way = dice.choice(names), dice.choice(["removed", "empty", "more", "document", "swapped"])
    if way == "more":
        copy(original, target)
        more = dice.choice([m for m in _MORE if m not in names])
        source = dice.choice([n for n in names if n.endswith((".json", ".txt"))] or names)
        content = dice.choice([b"{}", b"[]", b"x\n", (original / source).read_bytes()])
        (target / more).write_bytes(content)
        return "a file more", more
    if way == "document":
        copy(original, target)
        (target / dice.choice(["README.md", "LICENSE", ".gitattributes"])).write_text("hello")
        return REWRITTEN, "a document"
    copy(original, target, name)
    if way == "empty":
        (target / name).touch()
    elif way == "swapped":
        other = dice.choice([n for n in names if n != name])
        shutil.copyfile(original / other, target / name)
    return f"a file {way}", name


def _bytes(name: str | None) -> Change:
    """One byte of a file; most of it is weights."""

    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        copy(original, target, name or "")
        data = bytearray((original / name if name else original).read_bytes())
        at = dice.randrange(len(data)) if dice.random() < 0.7 else dice.randrange(
            min(len(data), 4096))  # fmt: skip
        way = dice.choice(["flipped", "flipped", "removed", "doubled"])
        if way == "flipped":
            data[at] ^= 1 << dice.randrange(8)
        elif way == "removed":
            del data[at]
        else:
            data[at:at] = data[at : at + 1]
        (target / name if name else target).write_bytes(data)
        return f"a byte {way}", f"{name or 'file'} at {at}"

    return change


def _flip(array: np.ndarray, dice: random.Random, row: int | None = None) -> np.ndarray:
    """One element changed: a bit, or to NaN, infinity, zero or its negative."""
    new = array.copy().reshape(-1)
    at = dice.randrange(new.size)
    raw = new[at : at + 1].view(np.uint8)
    way = dice.choice(["bit"] * 6 + ["nan", "inf", "zero", "negative"])
    if way == "bit" or new.dtype.kind != "f":
        raw[dice.randrange(raw.size)] ^= 1 << dice.randrange(8)
    else:
        new[at] = {"nan": np.nan, "inf": np.inf, "zero": 0, "negative": -new[at]}[way]
    if new.tobytes() == array.tobytes():
        raise Unchanged
    return new.reshape(array.shape)


# --- CTranslate2 ----------------------------------------------------------------------------------

_CT2_TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def _string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def _write_ct2(path: Path, revision: int, variables: list, aliases: list) -> None:
    with open(path, "wb") as f:
        f.write(struct.pack("<I", 6) + _string("WhisperSpec") + struct.pack("<I", revision))
        f.write(struct.pack("<I", len(variables)))
        for name, array, kind in variables:
            raw = array.tobytes()
            f.write(_string(name) + struct.pack("<B", array.ndim))
            f.write(struct.pack(f"<{array.ndim}I", *array.shape))
            f.write(struct.pack("<BI", kind, len(raw)) + raw)
        f.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases:
            f.write(_string(alias) + _string(name))


def _ct2(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    content = read(original / "model.bin")
    variables = [(n, np.array(a), _CT2_TYPES[a.dtype.name]) for n, a in content.variables.items()]
    aliases, revision = list(content.aliases.items()), content.revision
    way = dice.choice(["tensor"] * 6 + ["scale"] * 3 + ["setting"] * 3 + ["alias"] * 2 + [
        "removed", "renamed", "more", "revision", "type", "swapped", "order"])  # fmt: skip

    def pick(test) -> int:
        return dice.choice([i for i, v in enumerate(variables) if test(*v[:2])])

    at = pick(lambda n, a: True)
    if way == "tensor":
        at = pick(lambda n, a: a.ndim and not n.endswith("_scale"))
        variables[at] = (variables[at][0], _flip(variables[at][1], dice), variables[at][2])
    elif way == "scale":
        at = pick(lambda n, a: n.endswith("_scale"))
        variables[at] = (variables[at][0], _flip(variables[at][1], dice), variables[at][2])
    elif way == "setting":
        at = pick(lambda n, a: a.ndim == 0)
        name, array, kind = variables[at]
        value = dice.choice([int(array) + 1, 1 - int(array), -int(array), 0, 2, 1])
        if value == int(array):
            raise Unchanged
        variables[at] = (name, np.array(value, array.dtype), kind)
    elif way == "alias":
        kind = dice.choice(["removed", "twice", "more", "elsewhere", "over"])
        way = f"alias {kind}"
        at = dice.randrange(len(aliases))
        name = variables[pick(lambda n, a: a.ndim)][0]
        if kind == "removed":
            del aliases[at]
        elif kind == "twice":
            aliases.insert(dice.choice([0, len(aliases)]), (aliases[at][0], name))
        elif kind == "more":
            aliases.append((name + dice.choice(["_zero", "_scale", "x"]), name))
        elif kind == "over":
            aliases.append((name, variables[pick(lambda n, a: a.ndim)][0]))
        else:
            aliases[at] = (aliases[at][0], name)
        what = aliases[min(at, len(aliases) - 1)][0] if aliases else ""
        copy(original, target, "model.bin")
        _write_ct2(target / "model.bin", revision, variables, aliases)
        return way, what
    elif way == "removed":
        del variables[at]
        at = min(at, len(variables) - 1)
    elif way == "renamed":
        name, array, kind = variables[at]
        other = dice.choice([name + "_zero", name.replace("weight", "weight_packed"),
                             name.replace("bias", "gamma"), name.replace("layer_0", "layer_2"),
                             name + "x", name.replace("linear_0", "linear_1")])  # fmt: skip
        if other == name:
            raise Unchanged
        variables[at] = (other, array, kind)
    elif way == "more":
        name, array, kind = variables[at]
        more = dice.choice(["_zero", "_compensation", "_scale", "_packed", "/x"])
        variables.append((name + more, array, kind))
    elif way == "revision":
        revision = dice.choice([0, 1, 2, 4, 7])
    elif way == "type":
        name, array, _ = variables[at]
        dtype = dice.choice(["float32", "float16", "int8", "int16", "int32"])
        if dtype == array.dtype.name:
            raise Unchanged
        with np.errstate(all="ignore"):
            variables[at] = (name, array.astype(dtype), _CT2_TYPES[dtype])
    elif way == "swapped":
        same = [i for i, v in enumerate(variables) if v[1].shape == variables[at][1].shape
                and v[1].dtype == variables[at][1].dtype and i != at
                and v[1].tobytes() != variables[at][1].tobytes()]  # fmt: skip
        if not same:
            raise Unchanged
        other = dice.choice(same)
        one, two = variables[at], variables[other]
        variables[at], variables[other] = (one[0], *two[1:]), (two[0], *one[1:])
    else:
        dice.shuffle(variables)
        way = REWRITTEN
    copy(original, target, "model.bin")
    _write_ct2(target / "model.bin", revision, variables, aliases)
    return way, variables[at][0]


# --- ggml -----------------------------------------------------------------------------------------


def _ggml(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    data = bytearray(original.read_bytes())
    content = ggml.read(original)
    filters = 4 * 12 + 8
    tokens = filters + content.filters.nbytes + 4
    tensors = tokens + sum(4 + len(t) for t in content.tokens)
    way = dice.choice(["tensor"] * 6 + ["scale"] * 2 + ["dimension"] * 2 + ["mel filter", "token",
                       "token", "ftype", "name", "tensor twice", "tensor removed",
                       "order"])  # fmt: skip
    places = {}  # name -> start of its header, of its data, end
    at = tensors
    while at < len(data):
        rank, length, _ = struct.unpack_from("<3i", data, at)
        begin = at + 12 + 4 * rank
        name = data[begin : begin + length].decode()
        end = begin + length + content.tensors[name].raw.nbytes
        places[name] = at, begin + length, end
        at = end
    name = dice.choice([*places])
    header, start, end = places[name]
    if way in ("tensor", "scale"):
        kind = content.tensors[name].kind.name
        if way == "scale":
            name = dice.choice([n for n, t in content.tensors.items() if t.kind.name[0] == "Q"])
            header, start, end = places[name]
            block = {"Q8_0": 34, "Q5_0": 22, "Q4_0": 18}[content.tensors[name].kind.name]
            place = start + block * dice.randrange((end - start) // block) + dice.randrange(2)
        elif kind in ("F16", "F32") and dice.random() < 0.3:
            dtype = np.dtype({"F16": "<f2", "F32": "<f4"}[kind])
            new = _flip(np.frombuffer(bytes(data[start:end]), dtype), dice)
            data[start:end] = new.tobytes()
            place = None
        else:
            place = dice.randrange(start, end)
        if place is not None:
            data[place] ^= 1 << dice.randrange(8)
    elif way in ("dimension", "ftype"):
        index = 11 if way == "ftype" else dice.randrange(1, 11)
        (value,) = struct.unpack_from("<i", data, 4 * index)
        struct.pack_into("<i", data, 4 * index, int(new_number(value, dice)))
        name = f"number {index}"
    elif way == "mel filter":
        place = filters + dice.randrange(content.filters.nbytes)
        data[place] ^= 1 << dice.randrange(8)
    elif way == "token":
        index = dice.randrange(len(content.tokens))
        place = tokens + sum(4 + len(t) for t in content.tokens[:index])
        name, length = f"token {index}", len(content.tokens[index])
        if dice.random() < 0.5 and length:
            data[place + 4 + dice.randrange(length)] ^= 1 << dice.randrange(7)
        else:
            new = content.tokens[index] + b"x"
            data[place : place + 4 + length] = struct.pack("<i", len(new)) + new
    elif way == "name":
        data[start - 1] ^= 1
    elif way == "tensor twice":
        data += data[header:end]
    elif way == "tensor removed":
        del data[header:end]
    else:
        parts = [bytes(data[h:e]) for h, _, e in places.values()]
        dice.shuffle(parts)
        data[tensors:] = b"".join(parts)
        way = REWRITTEN
    copy(original, target)
    target.write_bytes(data)
    return way, name


# --- ONNX -----------------------------------------------------------------------------------------


def _onnx(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    side = dice.choice(["encoder", "decoder"])
    model = onnx.load(original / f"{side}.onnx")
    graph = model.graph
    way = dice.choice(["tensor"] * 5 + ["scale"] * 2 + ["attribute"] * 3 + ["node more"] * 4 + [
        "constant"] * 2 + ["node removed", "operator", "inputs swapped", "input elsewhere",
        "metadata", "opset", "input", "tensor removed", "tensor more", "tensor type", "output",
        "resaved"])  # fmt: skip
    what = ""
    scales = [t for t in graph.initializer if t.name.endswith(".scale")]
    tensors = [t for t in graph.initializer if not t.name.endswith(".scale")]
    node = dice.choice(graph.node)
    if way in ("tensor", "scale"):
        tensor = dice.choice(tensors if way == "tensor" else scales)
        what = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(_flip(numpy_helper.to_array(tensor), dice),
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
        nodes = [n for n in graph.node for a in n.attribute if a.type in (1, 2, 7)]
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
        nodes = [n for n in graph.node if n.op_type in pairs]
        node = dice.choice(nodes)
        what, node.op_type = node.op_type, pairs[node.op_type]
    elif way == "inputs swapped":
        node = dice.choice([n for n in graph.node if len(n.input) > 1])
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
    copy(original, target, f"{side}.onnx")
    onnx.save(model, target / f"{side}.onnx")
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


# --- safetensors and .pt --------------------------------------------------------------------------


def _tensors(tensors: dict[str, torch.Tensor], dice: random.Random) -> tuple[str, str]:
    """Change one thing in a table of tensors."""
    way = dice.choice(["tensor"] * 8 + ["removed", "renamed", "more", "type", "type", "swapped",
                                         "shape"])  # fmt: skip
    name = dice.choice([*tensors])
    tensor = tensors[name]
    if way == "tensor":
        tensors[name] = torch.from_numpy(_flip(tensor.numpy(), dice))
    elif way == "removed":
        del tensors[name]
    elif way == "renamed":
        tensors[name + "x"] = tensors.pop(name)
    elif way == "more":
        tensors[dice.choice([name + "x", "proj_out.weight", "kept_tokens"])] = tensor.clone()
    elif way == "type":
        dtype = dice.choice([torch.float32, torch.float16, torch.bfloat16, torch.float64,
                             torch.int8, torch.int32])  # fmt: skip
        if dtype == tensor.dtype:
            raise Unchanged
        tensors[name] = tensor.to(dtype)
    elif way == "swapped":
        same = [n for n, t in tensors.items() if t.shape == tensor.shape and t.dtype == tensor.dtype
                and not torch.equal(t, tensor)]  # fmt: skip
        if not same:
            raise Unchanged
        other = dice.choice(same)
        tensors[name], tensors[other] = tensors[other], tensor
    else:
        tensors[name] = tensor.reshape(1, *tensor.shape)
    return way, name


def _read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(path, "pt") as f:
        return dict(f.metadata() or {}), {n: f.get_tensor(n) for n in f.keys()}  # noqa: SIM118


def _safetensors(name: str | None) -> Change:
    def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
        metadata, tensors = _read_safetensors(original / name if name else original)
        chance = dice.random()
        if chance < 0.05:
            kind, what = REWRITTEN, "safetensors"
            tensors = dict(sorted(tensors.items(), reverse=True))
        elif chance < 0.2 and not name:
            kind, what = _metadata(metadata, dice)
        else:
            kind, what = _tensors(tensors, dice)
        copy(original, target, name or "")
        safetensors.torch.save_file(
            {n: t.contiguous().clone() for n, t in tensors.items()},
            target / name if name else target, metadata,
        )  # fmt: skip
        return kind, what

    return change


def _metadata(metadata: dict[str, str], dice: random.Random) -> tuple[str, str]:
    key = dice.choice([*metadata])
    way = dice.choice(["removed", "more", "other", "other", "other"])
    if way == "removed":
        del metadata[key]
    elif way == "more":
        metadata["x"] = "1"
    elif key in ("dims", "grids"):
        table = json.loads(metadata[key])
        inner = dice.choice([*table])
        table[inner] = _other(table[inner], dice)
        metadata[key] = json.dumps(table)
        key = f"{key} {inner}"
    else:
        metadata[key] += "x"
    return f"metadata {way}", key


def _pt(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
    content = torch.load(original, weights_only=True)
    chance = dice.random()
    if chance < 0.05:
        kind, what = REWRITTEN, "pt"
    elif chance < 0.2:
        dims = content["dims"]
        what, kind = dice.choice([*dims]), "dimension"
        dims[what] = _other(dims[what], dice)
    elif chance < 0.25:
        content["x"] = 1
        kind, what = "a key more", "x"
    else:
        kind, what = _tensors(content["model_state_dict"], dice)
    copy(original, target)
    torch.save(content, target)
    return kind, what


_CT2_JSON = ("config.json", "vocabulary.json", "tokenizer.json", "preprocessor_config.json")
_HF_JSON = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
            "preprocessor_config.json")  # fmt: skip

CHANGES: dict[str, list[Change]] = {
    "ct2": [
        *[_ct2] * 10,
        *map(_json, _CT2_JSON),
        _twice("config.json"),
        _file,
        _bytes("model.bin"),
    ],
    "ggml": [*[_ggml] * 8, _bytes(None)],
    "onnx": [*[_onnx] * 10, _file, _bytes("tokens.txt"), _bytes("decoder.onnx")],
    "hf": [
        *[_safetensors("model.safetensors")] * 12,
        *map(_json, _HF_JSON),
        _twice("generation_config.json"),
        _file,
        _bytes("model.safetensors"),
    ],
    "packed": [*[_safetensors(None)] * 8, _bytes(None)],
    "openai": [*[_pt] * 8, _bytes(None)],
}
