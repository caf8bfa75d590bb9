"""Files appear whole or not at all; a full disk is one line that names the file."""

import errno
import os
import socket
from itertools import pairwise

import pytest

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.init_student import main as init_student
from espnet_dq.bin.score import main as score
from espnet_dq.errors import InputError, run
from espnet_dq.files import Folder, atomic, file_name, read_yaml


def tree(folder):
    return {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "grid"),
    [
        ("openai", "none"),
        ("ct2", "ct2_int8"),
        ("ggml", "ggml_q5_0"),
        ("packed", "uniform4"),
        ("hf", "none"),
        ("onnx", "onnx_int8"),
        ("transformers_js", "ggml_q4_0"),
    ],
)
def test_every_format_on_a_full_disk(form, grid, save_toy, tmp_path, full_disk, capsys):
    """What was there stays, nothing is added, and the line names the file that was asked for."""
    out = tmp_path / "out"
    args = ["--from", str(save_toy()), "--to", form, "--grid", grid, "--out", str(out)]
    convert(args)
    before = tree(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended, full_disk():
        run(lambda: convert(args))
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.endswith(f": {out}: File too large\n") and said.count("\n") == 1
    assert tree(tmp_path) == before


def test_the_students_start_on_a_full_disk(save_toy, tmp_path, full_disk, capsys):
    toy, out = str(save_toy()), tmp_path / "out"
    args = ["--from", toy, "--teacher", toy, "--grid", "ct2_int8", "--out", str(out)]
    with pytest.raises(SystemExit) as ended, full_disk():
        run(lambda: init_student(args))
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.endswith(f": {out}/student.pth: File too large\n") and said.count("\n") == 1
    assert not list(out.iterdir())


def test_no_space_left(tmp_path):
    """The real error of a full disk, which names no file by itself."""
    path = tmp_path / "x.txt"
    with pytest.raises(OSError, match="No space left on device") as caught, atomic(path) as tmp:
        tmp.symlink_to("/dev/full")
        tmp.write_text("x")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert not list(tmp_path.iterdir())


def test_other_errors_are_kept(tmp_path):
    """An error while there is room comes through as it is, and so does an interruption."""
    (tmp_path / "x").write_text("before")
    for error in (
        RuntimeError("no fault of the disk"),
        FileNotFoundError("gone"),
        KeyboardInterrupt(),
    ):
        with pytest.raises(type(error)) as caught, atomic(tmp_path / "x") as tmp:
            tmp.write_text("half")
            raise error
        assert caught.value is error
    assert tree(tmp_path) == {tmp_path / "x": b"before"}


def test_a_folder_replaces_a_folder(tmp_path):
    for content in ("first", "second"):
        with atomic(tmp_path / "x", Folder("toy", ("first", "second"))) as tmp:
            tmp.mkdir()
            (tmp / content).write_text(content)
    assert os.listdir(tmp_path) == ["x"] and os.listdir(tmp_path / "x") == ["second"]
    made = (tmp_path / "x/second").stat()
    for content, same in (("second", True), ("other", False)):
        with atomic(tmp_path / "x", Folder("toy", ("second",))) as tmp:
            tmp.mkdir()
            (tmp / "second").write_text(content)
        assert os.listdir(tmp_path) == ["x"]
        assert ((tmp_path / "x/second").stat().st_ino == made.st_ino) == same


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
        ("a: 1\nb: 2\na: 3", "3: a is there twice"),
        ("a: [{b: 1, c: {}, b: 2}]", "1: b is there twice"),
        ("<<: {a: 1}\na: 2", "a merge key"),
        ("a: 1" + "0" * 9000, "not YAML"),
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


@pytest.mark.parametrize("kind", ["nothing", "folder", "pipe", "device", "socket", "loop", "nul"])
def test_only_regular_files_are_read(tmp_path, kind):
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
        read_yaml(path)


def test_nothing_is_written_below_a_file(tmp_path):
    """As beside `hyp/text`, given in the place of `hyp`."""
    (tmp_path / "text").write_text("a b\n")
    with pytest.raises(InputError, match="text/score: lies below a file, which is no folder"):
        score(["--ref", str(tmp_path), "--hyp", str(tmp_path / "text")])


def test_any_id_is_a_files_name(tmp_path):
    ids = [
        "a",
        "a/b",
        "a%2Fb",
        "..",
        "../x",
        "/etc",
        "-rf",
        "a b",
        "a\nb",
        "é" * 99,
        "é" * 98 + "e",
    ]
    names = [file_name(utt) + ".wav" for utt in ids]
    assert len(set(names)) == len(ids) and max(map(len, names)) <= 255
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert sorted(os.listdir(tmp_path)) == sorted(names)
