"""Changes of CTranslate2's model.bin."""

import random
import struct
from pathlib import Path

import numpy as np

from espnet_dq.formats.ct2.binary import read
from fuzz_changes.common import REWRITTEN, Unchanged, copy, flipped

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


def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
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
        variables[at] = (variables[at][0], flipped(variables[at][1], dice), variables[at][2])
    elif way == "scale":
        at = pick(lambda n, a: n.endswith("_scale"))
        variables[at] = (variables[at][0], flipped(variables[at][1], dice), variables[at][2])
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
