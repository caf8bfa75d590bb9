"""Something else than a file where a model's file should be, in every format and for every file.

A pipe that nobody writes to must not be waited for, a device not be read to its end.
"""

import os
import signal
import socket
import sys

import pytest

from espnet_dq.bin import convert, verify
from espnet_dq.errors import InputError, run
from espnet_dq.formats import detect, integers
from espnet_dq.formats.write import write

FILES = {
    "openai": (".",),
    "ggml": (".",),
    "packed": (".",),
    "ct2": ("model.bin",),
    "hf": ("model.safetensors", "config.json"),
    "onnx": ("encoder.onnx", "decoder.onnx"),
    "transformers_js": ("config.json", "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"),
}
KINDS = ("empty", "nothing", "folder", "pipe", "device", "socket", "loop", "text", "zeros")
CASES = [(form, file, kind) for form, files in FILES.items() for file in files for kind in KINDS]


@pytest.fixture(scope="session")
def models(toy_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for form in FILES:
        write(form, folder / form, toy_weights(), {}, "float16")
    return folder


@pytest.fixture(autouse=True)
def no_waiting():
    """What waits for a pipe is interrupted."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("waited for a file"))
    signal.alarm(20)
    yield
    signal.alarm(0)


def put(path, kind):
    """Put something of a kind where a file was."""
    path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path.name)
        os.chdir(here)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "text":
        path.write_text("{")
    elif kind == "zeros":
        path.write_bytes(bytes(5000))


@pytest.mark.parametrize(("form", "file", "kind"), CASES)
def test_no_file(models, tmp_path, form, file, kind, capsys):
    source, copy = models / form, tmp_path / "model"
    if file == ".":
        copy.write_bytes(b"")
        broken = copy
    else:
        for other in (p for p in source.rglob("*") if p.is_file()):
            place = copy / other.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(other)
        broken = copy / file
    put(broken, kind)
    for load in (detect.load, integers.load):
        if load is integers.load and form in ("hf", "openai", "onnx", "transformers_js"):
            continue  # nothing there that it reads, or only one of the two
        with pytest.raises(InputError, match=str(copy)) as caught:
            load(copy)
        assert "\n" not in str(caught.value)
    for main, given in (
        (convert.main, ["--from", str(copy), "--to", "openai", "--out", str(tmp_path / "x.pt")]),
        (verify.main, [str(models / "openai"), "--against", str(copy), "--grid", "none"]),
        (verify.main, [str(copy), "--against", str(models / "openai"), "--grid", "none"]),
    ):
        with pytest.raises(SystemExit) as ended:
            run(lambda main=main, given=given: main(given))
        said = capsys.readouterr()
        # 1: an empty ONNX file is a model that lacks everything.
        codes = {2, 1} if given[0] == str(copy) and kind == "empty" else {2}
        assert ended.value.code in codes, said.err
        assert said.err.count("\n") == 1 and not said.out, said.err
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("name", ["x\0y", "x" * 300, "a\udcff", "x/y", "/dev/null", "/dev/stdin"])
def test_names_that_no_model_has(tmp_path, name):
    with pytest.raises(InputError) as caught:
        detect.load(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(models, tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"PK\3\4")
    path.chmod(0)
    with pytest.raises(InputError, match=r"x\.pt: cannot be read \(Permission denied\)"):
        detect.load(path)


def test_a_sparse_file_larger_than_memory(tmp_path):
    """Sizes are looked at, not read."""
    assert sys.maxsize > 1 << 40
    for head in (b"PK\x03\x04", bytes(8) + b"{", b"lmgg" + bytes(60)):
        path = tmp_path / "x"
        path.write_bytes(head)
        os.truncate(path, 1 << 40)
        with pytest.raises(InputError, match="x: "):
            detect.load(path)
        path.unlink()
    (tmp_path / "m").mkdir()
    for name in ("encoder.onnx", "config.json", "model.safetensors"):
        (tmp_path / "m" / name).touch()
        os.truncate(tmp_path / "m" / name, 1 << 40)
        with pytest.raises(InputError, match="m/"):
            detect.load(tmp_path / "m")
