"""Files appear whole or not at all; a full disk is one line that names the file."""

import errno
import os
import subprocess
import sys

import pytest

from espnet_dq.bin.convert import main as convert
from espnet_dq.bin.init_student import main as init_student
from espnet_dq.bin.score import main as score
from espnet_dq.errors import InputError, program, run
from espnet_dq.files import Folder, atomic, file_name


def tree(folder):
    return {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


EVERY = pytest.mark.parametrize(
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


@pytest.mark.slow
@EVERY
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


@EVERY
def test_every_format_where_nothing_can_be_written(form, grid, save_toy, capsys):
    """The line names what was asked for, and not how it is called until it is whole."""
    with pytest.raises(SystemExit) as ended:
        run(lambda: convert(["--from", str(save_toy(state=32, layers=1)), "--to", form, "--grid",
                             grid, "--out", "/proc/self/fdinfo/out"]))  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code and said[-1].startswith(f"{program()}: /proc/self/fdinfo/out: ")
    assert len(said) == 1


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


LIMITED = """
import resource, sys
from pathlib import Path

import torch  # all that a conversion needs, before the limit
from espnet_dq.bin.convert import main
from espnet_dq.errors import run
from espnet_dq.formats.registry import FORMATS

status = Path("/proc/self/status").read_text().split()
used = int(status[status.index("VmSize:") + 1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv.pop(1)), resource.RLIM_INFINITY))
run(main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("spare", [1 << 20, 16 << 20])
def test_a_real_limit_of_memory(spare, save_toy, tmp_path):
    """One line, and nothing is half-written. (Rust's libraries, met by it, end the process.)"""
    (tmp_path / "x").mkdir()
    command = [sys.executable, "-P", "-c", LIMITED, str(spare), "--from", str(save_toy())]
    command += ["--to", "packed", "--grid", "uniform4", "--out", str(tmp_path / "x/out")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1 and done.stderr.endswith(": not enough memory\n"), done.stderr
    assert done.stderr.count("\n") == 1 and not os.listdir(tmp_path / "x")
