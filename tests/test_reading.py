"""Files of others: read as data, or refused in one line."""

import os
import socket
from itertools import pairwise

import pytest

from espnet_dq.errors import InputError
from espnet_dq.reading import read_json, read_text, read_yaml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "nested more than 50 deep"),  # libyaml's reader would end the process
        ("- " * 100_000, "nested more than 50 deep"),
        ("a: [", "not YAML"),
        ('a: !!int ""', "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("a: !!bool x", "not YAML"),
        ("!!python/object/apply:os.mkdir [ran]", "not YAML"),
        (b"\xff", "not YAML"),
        ("a: \0", "not YAML"),
        ("a: &x [1]\nb: *x", "2: an alias"),
        # a billion laughs: 439 bytes, gigabytes when they are built
        (
            "".join(f"{c}: &{c} [{', '.join([f'*{p}'] * 9)}]\n" for p, c in pairwise("zabcdefgh")),
            "1: an alias",
        ),
        ("a: &a [*a]", "1: an alias"),
        ("a: 1\nb: 2\na: 3", "3: 'a' is there twice"),
        ("a: [{b: 1, c: {}, b: 2}]", "1: 'b' is there twice"),
        ('a: 1\n"a": 2', "2: 'a' is there twice"),
        ("a: 1\n!!str a: 2", "2: 'a' is there twice"),
        ("a: 1\n'a': 2\n? >-\n a\n: 3", "2: 'a' is there twice"),
        ("10: 1\n0xa: 2", "2: 10 is there twice"),
        ("10: 1\n10.0: 2", "2: 10.0 is there twice"),
        ("true: 1\nyes: 2", "2: True is there twice"),
        ("1: 1\nyes: 2", "2: True is there twice"),
        ("a: !!set {x, 'x'}", "1: 'x' is there twice"),
        ("<<: {a: 1}\na: 2", "a merge key"),
        ("!!merge x: {a: 1}\nb: 2", "1: a merge key"),
        ("a: 1" + "0" * 9000, "not YAML"),
        ("a:\n- 0x" + "f" * 17, "2: a number of more than 64 bits"),
        ("a: -0b1" + "0" * 64, "1: a number of more than 64 bits"),
        ("0" + "7" * 90 + ": 1", "1: a number of more than 64 bits"),
        ("a: 1" + ":59" * 12, "1: a number of more than 64 bits"),
        ("[" + "[]," * 1_300_000 + "]", "1: YAML of more than 200000 values"),
        ("{a: " * 40 + "[" + "b," * 200_000, "1: YAML of more than 200000 values"),
        ("a: 1" + ":0" * 50_000, "a value of more than 10000 characters"),  # hours
        ("a: [1" + ":0" * 4000 + ".5]", "not YAML"),
        ("a: b\n" * 1_000_000, "larger than 4194304 bytes"),
    ],
)
def test_yaml_is_data_or_one_line(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=rf"x\.yaml:.*{said}") as error:
        read_yaml(path)
    assert "\n" not in str(error.value) and os.listdir() == ["x.yaml"]
    path.write_text("a: {b: [1, x, 2.5, null]}")
    assert read_yaml(path) == {"a": {"b": [1, "x", 2.5, None]}}


def test_keys_are_alike_in_one_mapping_only(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: {b: 1, c: [b, b, {b: 1}]}\nb: {b: b}\n? [a]\n: a\n")
    with pytest.raises(InputError, match="not YAML"):  # a list is no key in Python
        read_yaml(path)
    path.write_text("a: {b: 1, c: [b, b, {b: 1}]}\nb: {b: b}\n'1': x\n1: y\n")
    assert read_yaml(path) == {
        "a": {"b": 1, "c": ["b", "b", {"b": 1}]}, "b": {"b": "b"}, "1": "x", 1: "y"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "x.json: not JSON .nested too deep"),
        ('{"a": 1' + "0" * 5000 + "}", "x.json: not JSON .a number of 5001 digits"),
        ('{"a": -' + "9" * 40 + "}", "x.json: not JSON .a number of 41 digits"),
        ('{"a":\n', "x.json:2: not JSON: "),
        (b'{"a": "\xff"}', "x.json: not UTF-8"),
        ("[1]", "x.json: not a JSON object"),
    ],
)
def test_json_of_ours_is_read_or_one_line(tmp_path, content, said):
    path = tmp_path / "x.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=said):
        read_json(path)
    path.write_text('{"a": [NaN, -Infinity, 1000000000000000019884624838656]}')  # as Python writes
    assert repr(read_json(path)) == "{'a': [nan, -inf, 1000000000000000019884624838656]}"


@pytest.mark.parametrize("reader", [read_yaml, read_json, read_text])
@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "device", "socket", "loop", "nul"])
def test_only_regular_files_are_read(tmp_path, kind, reader):
    """A pipe that nobody writes to would be waited for."""
    path = tmp_path / "x.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(str(path))
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nul":
        path = tmp_path / "x\0.yaml"
    said = {"nothing": "no such file", "loop": "cannot be read", "nul": "cannot be read",
            "folder": "a folder, not a file"}  # fmt: skip
    with pytest.raises(InputError, match=said.get(kind, "not a regular file")):
        reader(path)
