"""What a corpus's archives and tables may name."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from espnet_dq.data.listing import inside, unpack
from espnet_dq.errors import InputError

FILES = (
    "good/a.wav",
    "../up.wav",
    "/abs.wav",
    "x/../../y.wav",
    "..",
    "x/..",
    "./.",
    "-rf",
    "ü.wav",
)


def archive(path, *members):
    """A .tar.gz of files with the content `sound`, or of other members (name, type, link)."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            name, kind, link = (
                member if isinstance(member, tuple) else (member, tarfile.REGTYPE, "")
            )
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o6777
            info.size = 5 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"sound"))
    return path


def test_an_archive_writes_below_its_folder_only(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    packed = archive(
        tmp_path / "in/x.tar.gz",
        *FILES,
        ("link", tarfile.SYMTYPE, str(tmp_path)),
        "link/through.wav",
        ("hard.wav", tarfile.LNKTYPE, "../../victim"),
        ("soft.wav", tarfile.SYMTYPE, str(victim)),
        "soft.wav",
        ("device", tarfile.CHRTYPE, ""),
        ("fifo", tarfile.FIFOTYPE, ""),
        ("folder.wav", tarfile.DIRTYPE, ""),
    )
    before = {p for p in tmp_path.rglob("*")}
    out = unpack(packed, tmp_path / "out/train")
    found = {p.name for p in out.iterdir()}
    assert found == {
        "a.wav", "up.wav", "abs.wav", "y.wav", "-rf", "ü.wav", "through.wav", "soft.wav"
    }  # fmt: skip
    for path in out.iterdir():
        assert path.is_file() and not path.is_symlink() and path.read_bytes() == b"sound"
        assert not path.stat().st_mode & 0o7111
    assert {p for p in tmp_path.rglob("*")} - before == {out.parent, out, *out.iterdir()}
    assert victim.read_text() == "mine" and not Path("/abs.wav").exists()


def test_a_file_with_holes_is_left_out(tmp_path):
    """Half a kilobyte that would fill the disk with a terabyte of zeros."""
    path = tmp_path / "x.tar.gz"
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "huge.wav",
              "GNU.sparse.realsize": str(1 << 40)}  # fmt: skip
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a.wav")
        info.size, info.pax_headers = 512, sparse
        tar.addfile(info, io.BytesIO(b"1\n0\n0\n".ljust(512, b"\0")))
    assert list(unpack(path, tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "ü" * 200])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(InputError, match=r"x\.tar\.gz: no name of a file"):
        unpack(archive(tmp_path / "x.tar.gz", "a.wav", name), tmp_path / "out")
    assert os.listdir(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../x", "a/../../x", "a\0b"])
def test_a_table_names_what_is_inside(tmp_path, name):
    assert inside(tmp_path, name) is None
    assert inside(tmp_path, "a/b.wav") == tmp_path / "a/b.wav"
