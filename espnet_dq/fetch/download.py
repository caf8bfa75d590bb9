"""A large file from a server: goes on where it broke off, and is checked by its hash."""

import time
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from espnet_dq.files import atomic, check_sha256

TIMEOUT = 5  # seconds without an answer
TRIES = 3  # connections in a row that bring nothing more
PAUSE = 1.0  # seconds before the next one


class Unreachable(Exception):
    """A server did not give the file: says why."""


def download(url: str, path: Path, expected: str) -> None:
    """Write `path`, whole or not at all, with a bar of the bytes.

    A server that gives nothing is asked once, so that something else can be tried. What has begun
    to come is asked for again from where it broke off, until `TRIES` connections in a row have
    brought nothing more.

    Args:
        url: where it is.
        path: where it goes.
        expected: its SHA-256.

    Raises:
        Unreachable: it did not come.
        InputError: it has another hash.
    """
    shown = {"unit": "B", "unit_scale": True, "desc": path.name, "delay": 0.1}
    with atomic(path) as tmp:
        with open(tmp, "wb") as file, tqdm(**shown) as bar:
            begin = failed = 0
            while why := _receive(url, file, bar):
                failed = 0 if file.tell() > begin else failed + 1
                begin = file.tell()
                if not begin or failed == TRIES:
                    raise Unreachable(why)
                time.sleep(PAUSE)
        check_sha256(tmp, expected)


def _receive(url: str, file: BinaryIO, bar: tqdm) -> str:
    """What more of it comes by one connection; why not all of it did, or ""."""
    request = Request(url, headers={"Range": f"bytes={file.tell()}-"} if file.tell() else {})
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            if answer.status != 206:  # all of it again
                file.seek(0)
                file.truncate()
            length = answer.headers.get("Content-Length")
            whole = file.tell() + int(length) if length else None
            bar.total, bar.n = whole, file.tell()
            while chunk := answer.read(1 << 20):
                file.write(chunk)
                bar.update(len(chunk))
    except (URLError, TimeoutError, ConnectionError, HTTPException) as e:
        return str(getattr(e, "reason", None) or e) or type(e).__name__
    if whole is not None and file.tell() < whole:
        return f"only {file.tell()} of {whole} bytes came"
    return ""
