"""Read an ONNX file: how much of it is structure, not numbers, is seen without building it.

Protobuf makes some 70 bytes in memory of two in a file, where nothing but empty nodes stand.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from espnet_dq.errors import InputError
from espnet_dq.reading import read_limited

LARGEST = 8 << 20  # bytes; of a large Whisper's merged decoder it is less than three million
_FILE = 2 << 30  # bytes, by protobuf's own rule
_GRAPH, _INITIALIZER, _RAW = 7, 5, 9  # fields of ModelProto, GraphProto, TensorProto
_FIXED = {1: 8, 5: 4}  # bytes of values by their wire type


def read_model(path: Path) -> onnx.ModelProto:
    """The model in a file; raises `InputError` where it holds none, and as `check_structure`."""
    content = read_limited(path, _FILE)
    check_structure(content, path)
    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, ValueError, RecursionError) as e:
        raise InputError(f"{path}: not an ONNX model, or truncated") from e
    if not model.graph.node:
        raise InputError(f"{path}: not an ONNX model, or truncated")
    return model


def check_structure(content: bytes, source: object) -> None:
    """Raise `InputError` when all but the raw numbers of a model's tensors is over `LARGEST`."""
    left = LARGEST
    try:
        for number, value, size in _fields(memoryview(content)):
            if number != _GRAPH:
                left -= size
                continue
            for inner, tensor, size in _fields(value):
                left -= size
                if inner == _INITIALIZER:
                    left += sum(len(raw) for n, raw, _ in _fields(tensor) if n == _RAW)
                if left < 0:
                    raise InputError(f"{source}: over {LARGEST} bytes of graph, as no Whisper has")
    except (IndexError, ValueError) as e:
        raise InputError(f"{source}: not an ONNX model, or truncated") from e
    if left < 0:
        raise InputError(f"{source}: over {LARGEST} bytes beside its graph, as no Whisper has")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview, int]]:
    """Number, value (empty if it is a number) and bytes of each field of a message."""
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        kind, length = key & 7, 0
        if kind == 0:
            _, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise ValueError(kind)
        if length > len(data) - at:
            raise ValueError(length)
        yield key >> 3, data[at : at + length], at + length - start
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(at)
