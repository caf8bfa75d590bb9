"""Real .deb files, made here; a small apt-get of our own stands in for the network."""

import io
import shutil
import subprocess
import tarfile
from contextlib import suppress

import pytest

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch.debian import Package, fetch
from espnet_dq.files import sha256

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs Debian's dpkg-deb")


@pytest.fixture
def deb(tmp_path):
    """A package with one file in it."""
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: tiny-speech\nVersion: 1.0-1\nArchitecture: all\n"
        "Maintainer: A <a@example.org>\nDescription: test\n"
    )
    (root / "usr/share/tiny").mkdir(parents=True)
    (root / "usr/share/tiny/text").write_text("hello\n")
    path = tmp_path / "tiny-speech_1.0-1_all.deb"
    subprocess.run(["dpkg-deb", "-b", root, path], check=True, capture_output=True)
    return path


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """Install a shell script as apt-get; it also notes each call."""

    def install(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{script}\n')
        (folder / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")

    return install


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_download_unpack_and_reuse(tmp_path, deb, apt):
    apt(f'cp "{deb}" .')
    package = Package("tiny-speech", "1.0-1", sha256(deb))
    downloads = tmp_path / "downloads"
    root = fetch(package, downloads)
    assert (root / "usr/share/tiny/text").read_text() == "hello\n"
    assert names(downloads) == ["tiny-speech_1.0-1", "tiny-speech_1.0-1_all.deb"]
    fetch(package, downloads)
    shutil.rmtree(root)
    fetch(package, downloads)  # unpacked again from the kept file
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 1 and calls[0].endswith("download tiny-speech=1.0-1")


def test_wrong_hash_of_a_download(tmp_path, deb, apt):
    apt(f'cp "{deb}" .')
    with pytest.raises(InputError, match=r"_1\.0-1_all\.deb: wrong hash"):
        fetch(Package("tiny-speech", "1.0-1", "0" * 64), tmp_path / "downloads")
    assert names(tmp_path / "downloads") == []


def test_wrong_hash_of_a_kept_file(tmp_path, deb, apt):
    apt("exit 1")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    content = bytearray(deb.read_bytes())
    content[-1] ^= 1
    (downloads / deb.name).write_bytes(content)
    with pytest.raises(InputError, match="wrong hash"):
        fetch(Package("tiny-speech", "1.0-1", sha256(deb)), downloads)
    assert names(downloads) == [deb.name]


def test_no_network_is_one_line(tmp_path, apt):
    apt('echo "W: note" >&2; echo "E: Failed to fetch: no route" >&2; exit 100')
    with pytest.raises(WorkError) as error:
        fetch(Package("tiny-speech", "1.0-1", "0" * 64), tmp_path / "downloads")
    line = str(error.value)
    assert "tiny-speech 1.0-1" in line and "E: Failed to fetch: no route" in line
    assert "network" in line and "\n" not in line
    assert names(tmp_path / "downloads") == ["apt-lists"]


def test_a_machine_without_package_lists(tmp_path, deb, apt):
    """Without lists of its own apt finds nothing; lists beside the downloads need no root."""
    apt(
        'case "$*" in *State::Lists=*download*) '
        f'cp "{deb}" . ;; *update*) ;; *) echo "E: Unable to locate" >&2; exit 100 ;; esac'
    )
    fetch(Package("tiny-speech", "1.0-1", sha256(deb)), tmp_path / "downloads")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [c.split()[-1] for c in calls][1] == "update" and len(calls) == 3


def test_no_apt_get(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorkError, match="needs apt-get"):
        fetch(Package("tiny-speech", "1.0-1", "0" * 64), tmp_path / "downloads")


def test_a_broken_package_leaves_no_folder(tmp_path, apt):
    apt("exit 1")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    file = downloads / "tiny-speech_1.0-1_all.deb"
    file.write_bytes(b"no archive")
    with pytest.raises(WorkError, match="dpkg-deb failed"):
        fetch(Package("tiny-speech", "1.0-1", sha256(file)), downloads)
    assert names(downloads) == [file.name]


def tar(*members):
    """A .tar.gz of (name, type, link or content)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as out:
        for name, kind, what in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(what)
            else:
                info.linkname = what
            out.addfile(info, io.BytesIO(what.encode()))
    return packed.getvalue()


def test_a_package_writes_below_its_folder_only(tmp_path, apt):
    """Even one of the right hash: dpkg-deb refuses it, or leaves out what leads elsewhere."""
    apt("exit 1")
    victim = tmp_path / "victim"
    victim.write_text("mine")
    regular, soft, hard = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
    hostile = {
        "up": [("../../up", regular, "evil")],
        "absolute": [(f"{tmp_path}/absolute", regular, "evil")],
        "through": [("./a", soft, str(tmp_path)), ("./a/through", regular, "evil")],
        "hard": [("./b", hard, str(victim)), ("./b", regular, "evil")],
        "soft": [("./c", soft, str(victim)), ("./c", regular, "evil")],
    }
    control = b"Package: x\nVersion: 1\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: x\n"
    for name, members in hostile.items():
        downloads = tmp_path / "downloads"
        downloads.mkdir(exist_ok=True)
        deb = downloads / f"{name}_1_all.deb"
        parts = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": tar(("./control", regular, control.decode())),
            "data.tar.gz": tar(*members),
        }
        with open(deb, "wb") as f:
            f.write(b"!<arch>\n")
            for part, content in parts.items():
                f.write(f"{part:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
                f.write(content + b"\n" * (len(content) % 2))
        with suppress(WorkError):
            fetch(Package(name, "1", sha256(deb)), downloads)
        assert victim.read_text() == "mine"
        assert names(tmp_path) == ["bin", "downloads", "victim"]
        assert {x.split("_")[0] for x in names(downloads)} <= set(hostile)
