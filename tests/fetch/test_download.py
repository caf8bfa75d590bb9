"""A large file over a connection that breaks, and the names of OpenAI's that it may be."""

import errno
import hashlib
import re
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler
from math import prod
from types import SimpleNamespace

import pytest
import whisper

from espnet_dq.errors import InputError, WorkError
from espnet_dq.fetch import download as module
from espnet_dq.fetch.download import Unreachable, download
from espnet_dq.fetch.sources import MODELS, MULTILINGUAL
from espnet_dq.fetch.weights import fetch
from espnet_dq.whisper.dims import SIZES, weight_shapes
from tests.loopback import serve

CONTENT = bytes(range(256)) * 400
HASH = hashlib.sha256(CONTENT).hexdigest()
PART = f"x.{HASH[:8]}.part"


@pytest.fixture
def server(monkeypatch):
    """(address, where each connection began). `/PORTION/...`: no connection gives more bytes.

    `/whole/...` knows no ranges, and breaks the first time only.
    """
    monkeypatch.setattr(module, "PAUSE", 0)
    begun = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            portion, ranges = self.path.split("/")[1], self.headers.get("Range")
            begin = int(re.fullmatch(r"bytes=(\d+)-", ranges)[1]) if ranges else 0
            begun.append(begin)
            if begin == len(CONTENT):
                return self.send_error(416)
            if portion == "whole":
                begin, most = 0, len(CONTENT) // (1 if ranges else 2)
            else:
                most = int(portion)
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(CONTENT) - begin))
            self.end_headers()
            self.wfile.write(CONTENT[begin : begin + most])

    with serve(Handler) as address:
        yield address, begun


def test_it_goes_on_where_it_broke_off(server, tmp_path):
    address, begun = server
    download(f"{address}/40000/x", tmp_path / "x", HASH)
    assert (tmp_path / "x").read_bytes() == CONTENT and begun == [0, 40000, 80000]


def test_a_server_without_ranges_gives_all_of_it_again(server, tmp_path):
    address, begun = server
    download(f"{address}/whole/x", tmp_path / "x", HASH)
    assert (tmp_path / "x").read_bytes() == CONTENT and begun == [0, len(CONTENT) // 2]


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        ConnectionResetError(),
        TimeoutError("timed out"),
        IncompleteRead(b""),
    ],
)
def test_whatever_a_network_does_it_goes_on(error, monkeypatch, tmp_path):
    """Of an open connection urllib wraps nothing."""
    begun = []

    class Answer(SimpleNamespace):
        def read(self, _):
            chunk, self.chunk = self.chunk, b"" if self.whole else None
            if chunk is None:
                raise error
            return chunk

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    def urlopen(request, timeout):
        begin = int(request.headers.get("Range", "bytes=0-")[6:-1])
        begun.append(begin)
        headers, chunk = {"Content-Length": str(len(CONTENT) - begin)}, CONTENT[begin:][:60000]
        return Answer(status=206 if begin else 200, headers=headers, chunk=chunk, whole=begin > 0)

    monkeypatch.setattr(module, "urlopen", urlopen)
    monkeypatch.setattr(module, "PAUSE", 0)
    download("https://x", tmp_path / "x", HASH)
    assert begun == [0, 60000] and (tmp_path / "x").read_bytes() == CONTENT


def test_an_outage_of_two_minutes_is_waited_for(server, monkeypatch, tmp_path):
    """And after a longer one, as after an interrupt, the next call goes on."""
    address, begun = server
    slept, down = [], []

    def sleep(seconds):
        slept.append(seconds)
        if down:
            raise KeyboardInterrupt

    def urlopen(request, timeout):
        if begun and down[:1] != [False]:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return open_url(request, timeout=timeout)

    open_url = module.urlopen
    monkeypatch.setattr(module, "PAUSE", 1)
    monkeypatch.setattr(module, "urlopen", urlopen)
    monkeypatch.setattr(time, "sleep", sleep)
    with pytest.raises(Unreachable, match="Network is unreachable") as caught:
        download(f"{address}/40000/x", tmp_path / "x", HASH)
    assert slept == [1, 2, 4, 8, 16, 32, 64] and caught.value.begun
    assert [file.name for file in tmp_path.iterdir()] == [PART]
    with pytest.raises(Unreachable):  # nothing more: something else can be tried at once
        download(f"{address}/40000/x", tmp_path / "x", HASH)
    down.append(False)
    with pytest.raises(KeyboardInterrupt):
        download(f"{address}/40000/x", tmp_path / "x", HASH)
    assert begun == [0, 40000] and (tmp_path / PART).stat().st_size == 80000
    download(f"{address}/40000/x", tmp_path / "x", HASH)
    assert begun == [0, 40000, 80000] and [file.name for file in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_all_of_it_is_there_but_for_its_name(server, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    download(f"{server[0]}/40000/x", tmp_path / "x", HASH)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]


def test_no_room_is_no_fault_of_the_server(server, tmp_path):
    address, begun = server
    (tmp_path / PART).symlink_to("/dev/full")
    with pytest.raises(OSError, match=rf"No space left on device: '.*{PART}'"):
        download(f"{address}/200000/x", tmp_path / "x", HASH)
    assert begun == [0]


def test_who_asks_for_the_same_meanwhile_waits(server, tmp_path, monkeypatch):
    address, begun = server
    both, receive = threading.Barrier(2), module._receive

    def slowly(*arguments):
        time.sleep(0.2)
        receive(*arguments)

    def ask(_):
        both.wait()
        download(f"{address}/200000/x", tmp_path / "x", HASH)

    monkeypatch.setattr(module, "_receive", slowly)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(ask, range(2))] == [None, None]
    assert begun == [0] and [file.name for file in tmp_path.iterdir()] == ["x"]


def test_who_waits_goes_on_where_the_other_was_killed(server, tmp_path, monkeypatch):
    address, begun = server

    def flock(file, how):  # which who waits gets when the other ends
        (tmp_path / PART).write_bytes(CONTENT[:1000])

    monkeypatch.setattr(module.fcntl, "flock", flock)
    download(f"{address}/200000/x", tmp_path / "x", HASH)
    assert begun == [1000] and (tmp_path / "x").read_bytes() == CONTENT


def test_nothing_stays_of_what_does_not_come(server, tmp_path):
    address, begun = server
    with pytest.raises(Unreachable, match="only 0 of 102400 bytes came"):
        download(f"{address}/0/x", tmp_path / "x", HASH)
    assert begun == [0]  # something else may be tried
    with pytest.raises(InputError, match="wrong hash"):
        download(f"{address}/200000/x", tmp_path / "x", "0" * 64)
    assert not [*tmp_path.iterdir()]


def test_a_model_of_two_names_is_one_file(server, tmp_path, monkeypatch):
    address, begun = server
    for name in ("large", "large-v3"):
        monkeypatch.setitem(whisper._MODELS, name, f"{address}/200000/{HASH}/large-v3.pt")
        path = fetch(name, tmp_path / "out", tmp_path / "cache")
        assert path.name == f"{name}.pt" and path.read_bytes() == CONTENT
    assert len(begun) == 1


def test_a_model_that_no_package_holds(tmp_path, monkeypatch):
    monkeypatch.setitem(whisper._MODELS, "medium", "http://127.0.0.1:9/x/medium.pt")
    with pytest.raises(WorkError, match=r"^medium: OpenAI's server cannot be .*no package holds"):
        fetch("medium", tmp_path, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("model", ["small", "medium"])
def test_other_weights_only_where_nothing_came(model, tmp_path, monkeypatch):
    """Else every later run would have them, though the server answers again."""
    (tmp_path / "openai").mkdir()
    part = tmp_path / f"openai/{model}.pt.00000000.part"
    part.write_bytes(CONTENT[:40000])
    monkeypatch.setitem(whisper._MODELS, model, f"http://127.0.0.1:9/{'0' * 64}/{model}.pt")
    with pytest.raises(WorkError, match=rf"^{model}: OpenAI's server cannot .*the same call goes"):
        fetch(model, tmp_path, tmp_path)
    assert part.stat().st_size == 40000 and not (tmp_path / f"{model}.pt").exists()


def test_the_names_are_openai_whispers():
    assert MODELS.keys() == whisper._MODELS.keys()
    assert SIZES.keys() == {*MULTILINGUAL} == {name for name in MODELS if ".en" not in name}
    for name, dims in SIZES.items():  # README's counts are rounded, tiny's most
        count = sum(map(prod, weight_shapes(dims).values())) / 1e6
        assert 0.96 * MODELS[name] < count < 1.01 * MODELS[name], name
        assert (dims.n_mels, dims.n_vocab) in ((80, 51865), (128, 51866))
