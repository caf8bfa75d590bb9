"""Checkpoints that say more than they hold, or something else: one line each, and no memory."""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from dataclasses import asdict
from io import BytesIO

import pytest
import torch

from espnet_dq.errors import InputError
from espnet_dq.formats import detect, torch_file
from espnet_dq.formats.openai import read as openai

NAME = "decoder.blocks.0.mlp.0.weight"


class Global:
    """A name of torch's, and what it is called with, as they stand in a pickle."""

    def __init__(self, module, name, *arguments):
        self.of, self.arguments = (module, name), arguments


class Storage:
    """A storage as a pickle names it: `key` of the archive, `numel` as it claims."""

    def __init__(self, kind, key, numel):
        self.id = ("storage", Global("torch", f"{kind}Storage"), key, "cpu", numel)


class Odd:
    """An ordered table whose pickle gives it attributes, as those of `state_dict()` have one."""

    def __init__(self, items, /, **attributes):
        self.items, self.attributes = items, attributes


def dump(value):
    """A pickle of plain values, `Global` and `Storage`, which need not be there."""
    if isinstance(value, Storage):
        return dump(value.id) + b"Q"
    if isinstance(value, Global):
        name = "c{}\n{}\n".format(*value.of).encode()
        return name + (dump(value.arguments) + b"R" if value.arguments else b"")
    if isinstance(value, Odd):
        ordered = b"ccollections\nOrderedDict\n)R(" + dump(value.items)[2:]
        return ordered + dump(value.attributes) + b"b"
    if isinstance(value, dict):
        return b"}(" + b"".join(dump(k) + dump(v) for k, v in value.items()) + b"u"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(dump, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(dump, value)) + b"e"
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(storage, shape, stride, offset=0, requires_grad=False):
    return Global(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage, offset, tuple(shape), tuple(stride), requires_grad, {}, *(),
    )  # fmt: skip


def archive(content, storages=None, members=(), protocol=2, **options):
    """The bytes of a checkpoint with this pickle, these storages and, empty, other members."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", **options) as f:
        f.writestr("x/data.pkl", b"\x80" + bytes([protocol]) + dump(content) + b".")
        f.writestr("x/byteorder", "little")
        for key, data in ({"0": b"\0" * 64} | (storages or {})).items():
            f.writestr(f"x/data/{key}", data)
        f.writestr("x/version", "3\n")
        for name in members:
            f.writestr(f"x/{name}", "")
    return out.getvalue()


def checkpoint(toy, **changes):
    return {"dims": asdict(toy.dims), "model_state_dict": dict(toy.state)} | changes


def saved(toy, value):
    """A checkpoint of torch's with one tensor that is another kind."""
    out = BytesIO()
    torch.save(checkpoint(toy, model_state_dict=toy.state | {NAME: value}), out)
    return out.getvalue()


def with_tensor(value):
    return lambda toy: archive(
        {"dims": asdict(toy.dims), "model_state_dict": {NAME: value}}, {"0": b"\0" * 64}
    )


def laughing():
    value = "ha"
    for _ in range(40):
        value = [value, value]
    return value


def two_directories(toy):
    """A sound archive before the end's record of another whose members are compressed."""
    content = {"dims": asdict(toy.dims), "model_state_dict": {}}
    sound = archive(content)
    packed = archive(content, {"0": b"\0" * (1 << 22)}, compression=zipfile.ZIP_DEFLATED)
    end = bytearray(packed[-22:])
    return sound[:-22] + packed[:-22] + bytes(end) + sound[-22:]


def commented(toy):
    """The first end of an archive has the second one as its comment: readers choose."""
    data = archive({"dims": asdict(toy.dims), "model_state_dict": {}})
    outer = bytearray(data)
    outer[-2:] = struct.pack("<H", 22)
    return bytes(outer) + data[-22:]


def wide(toy):
    """Two records of 64 bits: one where the locator points to, one right before it."""
    data = archive({"dims": asdict(toy.dims), "model_state_dict": {}})
    _, _, _, here, count, length, start, _ = struct.unpack("<4s4H2LH", data[-22:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, here, count, length, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    return data[:-22] + record + locator + data[-22:]


def renamed(old, new):
    def change(toy):
        data = archive({"dims": asdict(toy.dims), "model_state_dict": {}})
        assert len(old) == len(new) and old in data
        return data.replace(old, new)

    return change


def rebuild(name, *arguments):
    return with_tensor(Global("torch._utils", name, *arguments))


STORAGE = Storage("Float", "0", 16)
FILES = {
    "stride 0": (with_tensor(tensor(STORAGE, (1 << 17, 1 << 17), (0, 0))), "larger than what"),
    "overlapping": (with_tensor(tensor(STORAGE, (8, 8), (1, 1))), "larger than what"),
    "one storage many times": (
        lambda toy: archive(
            {
                "dims": asdict(toy.dims),
                "model_state_dict": {str(i): tensor(STORAGE, (16,), (1,)) for i in range(1000)},
            }
        ),
        "",
    ),
    "a program": (lambda toy: archive({"dims": {}}, members=["constants.pkl"]), "TorchScript"),
    "beyond its storage": (with_tensor(tensor(STORAGE, (17,), (1,))), "damaged"),
    "beyond its storage by far": (with_tensor(tensor(STORAGE, (1 << 40,), (1,))), "damaged"),
    "offset beyond it": (with_tensor(tensor(STORAGE, (4,), (1,), 1 << 50)), "damaged"),
    "negative stride": (with_tensor(tensor(STORAGE, (4,), (-1,))), "damaged"),
    "negative size": (with_tensor(tensor(STORAGE, (-4,), (1,))), "damaged"),
    "storage beyond the file": (
        with_tensor(tensor(Storage("Float", "0", 1 << 30), (1 << 30,), (1,))),
        "damaged",
    ),
    "storage of no number": (with_tensor(tensor(Storage("Float", "0", 1.5), (4,), (1,))), ""),
    "storage that is not there": (with_tensor(tensor(Storage("Float", "9", 4), (4,), (1,))), ""),
    "storage of the pickle": (
        with_tensor(tensor(Global("torch", "FloatStorage", 1 << 40), (4,), (1,))),
        "",
    ),
    "sparse": (lambda toy: saved(toy, toy.state[NAME].to_sparse()), "of plain tensors"),
    "meta": (lambda toy: saved(toy, toy.state[NAME].to("meta")), "of plain tensors"),
    "quantized": (
        lambda toy: saved(toy, torch.quantize_per_tensor(toy.state[NAME], 0.1, 0, torch.qint8)),
        "of plain tensors",
    ),
    "float8": (lambda toy: saved(toy, toy.state[NAME].to(torch.float8_e4m3fn)), "plain tensors"),
    "complex": (lambda toy: saved(toy, toy.state[NAME].to(torch.complex64)), "of plain tensors"),
    "conjugate": (lambda toy: saved(toy, toy.state[NAME].to(torch.complex64).conj()), ""),
    "negative bit": (lambda toy: saved(toy, torch._neg_view(toy.state[NAME])), ""),
    "nested": (
        lambda toy: saved(toy, torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])),
        "of plain tensors",
    ),
    "bool": (lambda toy: saved(toy, toy.state[NAME] > 0), "expected floats"),
    "integers": (lambda toy: saved(toy, toy.state[NAME].long()), "expected floats"),
    "not a number": (lambda toy: saved(toy, toy.state[NAME] * torch.nan), f"{NAME} .*not all fin"),
    "beyond float32": (
        lambda toy: saved(toy, toy.state[NAME].double() * 1e300),
        f"{NAME} .*beyond torch.float32",
    ),
    "a tensor's name is a number": (
        lambda toy: archive({"dims": asdict(toy.dims), "model_state_dict": {3: 4}}),
        "3 is not the name",
    ),
    "a tensor's name is a list of names": (
        lambda toy: archive({"dims": asdict(toy.dims), "model_state_dict": {(1, 2): 4}}),
        "a tuple is not the name",
    ),
    "another call": (rebuild("_rebuild_qtensor", 1), "of plain tensors"),
    "memory of the pickle": (
        with_tensor(Global("builtins", "bytearray", 1 << 36)),
        "of plain tensors",
    ),
    "two directories": (two_directories, "damaged"),
    "a directory in a comment": (commented, "damaged"),
    "two records of 64 bits": (wide, "damaged"),
    "a member twice, in capitals": (renamed(b"x/version", b"x/DATA/0\0"), ""),
    "another folder": (renamed(b"x/byteorder", b"y/byteorder"), "not in one folder"),
    "no pickle": (renamed(b"x/data.pkl", b"x/data.pkk"), "no data.pkl"),
    "another pickle": (renamed(b"x/data.pkl", b"x/DATA.pkl"), "no data.pkl"),
    "bytes before it": (lambda toy: b"PK\x03\x04" + archive({}), "damaged"),
    "compressed": (
        lambda toy: archive({}, {"0": b"\0" * (1 << 20)}, compression=zipfile.ZIP_BZIP2),
        "compressed",
    ),
    "deep nesting": (
        lambda toy: archive({}).replace(dump({}) + b".", b"." + b"." * len(dump({}))),
        "",
    ),
    "only its mark": (lambda toy: b"PK\x03\x04", "damaged"),
    "a large pickle": (lambda toy: archive({"x": "y" * (5 << 20)}), "a data.pkl of"),
    "a list": (lambda toy: archive([1]), "needs the keys"),
    "a state of another type": (
        lambda toy: archive({"dims": asdict(toy.dims), "model_state_dict": [1]}),
        "not a dict of tensors",
    ),
}
VALUES = {
    "not a number": float("nan"),
    "infinite": float("inf"),
    "bool": True,
    "a word": "6",
    "a number with a point": 6.0,
    "negative": -6,
    "zero": 0,
    "huge": 1 << 600,
    "nothing": None,
    "a list": [6],
    "a list that is larger than the world": laughing(),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_hostile_checkpoint_is_one_line(toy, tmp_path, kind):
    make, said = FILES[kind]
    path = tmp_path / "x.pt"
    path.write_bytes(make(toy))
    with pytest.raises(InputError, match=rf"x\.pt: .*{said}") as caught:
        detect.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "attributes", [{"keys": 5}, {"items": OrderedDict, "_metadata": {}}, {"__getitem__": None}]
)
def test_ordered_tables_have_their_own_methods(toy, tmp_path, attributes):
    """A pickle may put anything in their place, a class that can be called, too."""
    attributes = {
        name: Global("collections", "OrderedDict") if value is OrderedDict else value
        for name, value in attributes.items()
    }
    content = {
        "dims": Odd(asdict(toy.dims), **attributes),
        "model_state_dict": Odd({NAME: tensor(STORAGE, (4, 4), (4, 1))}, **attributes),
    }
    (tmp_path / "x.pt").write_bytes(archive(Odd(content, **attributes)))
    with pytest.raises(InputError, match=r"x\.pt: .*missing"):
        detect.load(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(archive([({"a": Odd({"b": 1}, **attributes)},)]))
    [(found,)] = torch_file.read(tmp_path / "x.pt")
    assert list(found["a"].items()) == [("b", 1)] and not vars(found["a"])


def test_torch_says_nothing_beside_our_line(tmp_path, recwarn):
    """Of protocols that it does not write, and of programs, it warns in lines of its own."""
    (tmp_path / "x.pt").write_bytes(archive({"x": 1}, protocol=4))
    assert torch_file.read(tmp_path / "x.pt") == {"x": 1}
    (tmp_path / "x.pt").write_bytes(archive({"x": 1}, members=["constants.pkl"]))
    with pytest.raises(InputError, match="TorchScript"):
        torch_file.read(tmp_path / "x.pt")
    assert not [str(warning.message) for warning in recwarn]


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("key", ["n_audio_head", "n_vocab"])
def test_dimensions_of_other_kinds_are_one_line(toy, tmp_path, kind, key):
    path = tmp_path / "x.pt"
    dims = asdict(toy.dims) | {key: VALUES[kind]}
    torch.save(checkpoint(toy, dims=dims), path)
    with pytest.raises(InputError, match=rf"x\.pt: {key} = ") as caught:
        detect.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_what_says_nothing_of_the_numbers_is_taken(toy, tmp_path):
    """Parameters, transposed and shared storages, wider and narrower floats."""
    path, state = tmp_path / "x.pt", dict(toy.state)
    state[NAME] = torch.nn.Parameter(state[NAME])
    state["decoder.ln.weight"] = state["decoder.ln.weight"].bfloat16().requires_grad_()
    state["decoder.ln.bias"] = state["decoder.ln.bias"].double()
    out = "decoder.blocks.0.attn.out.weight"
    state[out] = state[out].t().contiguous().t()
    torch.save(checkpoint(toy, model_state_dict=OrderedDict(state)), path)
    found = openai.load(path).state
    path.write_bytes(b"")  # what was read is nobody else's
    for name, value in toy.state.items():
        assert type(found[name]) is torch.Tensor and not found[name].requires_grad
        expected = value.bfloat16().float() if name == "decoder.ln.weight" else value
        assert found[name].dtype == torch.float32 and torch.equal(found[name], expected), name


def test_all_other_archives_of_torch_are_read(tmp_path):
    """A directory with numbers of 64 bits, as a large archive has, is the same directory."""
    data = archive({"x": [1, 2]})
    _, _, _, here, count, length, start, _ = struct.unpack("<4s4H2LH", data[-22:])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, here, count, length, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    for tail in (data[-22:], end):
        (tmp_path / "x.pt").write_bytes(data[:-22] + record + locator + tail)
        assert torch_file.read(tmp_path / "x.pt") == {"x": [1, 2]}


@pytest.mark.slow
def test_no_memory_is_taken(toy, tmp_path):
    """What claims 64 GiB is refused within 200 MiB."""
    path = tmp_path / "x.pt"
    path.write_bytes(FILES["stride 0"][0](toy))
    program = (
        "import json, resource, sys\n"
        "from espnet_dq.errors import InputError\n"
        "from espnet_dq.formats import detect\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: detect.load(sys.argv[1])\n"
        "except InputError: pass\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(json.dumps(after - before))\n"
    )
    run = [sys.executable, "-c", program, str(path)]
    said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert json.loads(said) < 200 << 10
