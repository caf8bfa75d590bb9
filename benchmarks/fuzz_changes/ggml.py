"""Changes of whisper.cpp's file."""

import random
import struct
from pathlib import Path

import numpy as np

from espnet_dq.formats.ggml import read as ggml
from fuzz_changes.common import REWRITTEN, copy, flipped, new_number


def change(original: Path, target: Path, dice: random.Random) -> tuple[str, str]:
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
            new = flipped(np.frombuffer(bytes(data[start:end]), dtype), dice)
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
