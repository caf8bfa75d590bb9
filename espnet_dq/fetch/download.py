"""A large file from a server: goes on where it broke off, and is checked by its hash."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from espnet_dq.errors import InputError, one_line
from espnet_dq.files import atomic, check_replaceable, check_sha256, sha256

TIMEOUT = 5  # seconds without an answer
TRIES = 7  # connections in a row that bring nothing more: two minutes without a network
PAUSE = 1.0  # seconds before the first of them, then twice as many each time


class Unreachable(Exception):
    """A server did not give the file: says why, and whether some of it is here."""

    def __init__(self, why: str, begun: bool = False) -> None:
        super().__init__(why)
        self.begun = begun


def download(url: str, path: Path, expected: str) -> None:
    """Write `path`, whole or not at all, with a bar of the bytes.

    A server that gives nothing is asked once, so that something else can be tried. What has begun
    to come is asked for again from where it broke off, until `TRIES` connections in a row have
    brought nothing more. It lies beside `path` as NAME.HASH.part, whatever ends this process, and
    the next call goes on with it. Another one that asks for the same waits.

    Args:
        url: where it is.
        path: where it goes.
        expected: its SHA-256.

    Raises:
        Unreachable: it did not come.
        InputError: it has another hash; nothing of it stays.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{expected[:8]}.part")
    with _alone(part) as file:
        if path.is_file() and sha256(path) == expected:  # another has just fetched it
            return
        _receive(url, file, path.name)
        file.flush()
        try:
            check_sha256(part, expected)
        except InputError:
            file.truncate(0)
            raise
        with atomic(path) as tmp:
            part.rename(tmp)


@contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """A file to append to, which no other process has meanwhile, where there are locks.

    It stays if something is in it. Errors of writing name it.
    """
    try:
        while True:
            file = open(part, "ab")  # noqa: SIM115
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # who had it has renamed or removed it
                if os.path.samestat(os.stat(part), os.fstat(file.fileno())):
                    break
            file.close()
        with file:
            file.seek(0, os.SEEK_END)  # who had it before may have written
            try:
                yield file
            finally:  # before another is let in
                file.flush()
                if not os.fstat(file.fileno()).st_size:
                    part.unlink()
    except OSError as e:
        raise e if e.filename else OSError(e.errno, e.strerror, str(part)) from e


def _receive(url: str, file: BinaryIO, name: str) -> None:
    """Append what is missing of a file, by as many connections as it takes."""
    begun, failed = file.tell(), 0
    with tqdm(initial=begun, unit="B", unit_scale=True, desc=name, delay=0.1) as bar:
        while True:
            before = file.tell()
            try:
                for begin, whole, chunk in _chunks(url, before):
                    if begin != file.tell():  # all of it again
                        file.truncate(begin)
                        file.seek(begin)
                    file.write(chunk)
                    bar.total = whole
                    bar.update(file.tell() - bar.n)
                return
            except Unreachable as e:
                failed = 0 if file.tell() > before else failed + 1
                if file.tell() == begun or failed == TRIES:
                    raise Unreachable(str(e), file.tell() > 0) from e
                pause = PAUSE * 2**failed
                bar.write(one_line(f"{name}: {e}: again in {pause:.0f} s"), file=sys.stderr)
                time.sleep(pause)


def _chunks(url: str, begin: int) -> Iterator[tuple[int, int | None, bytes]]:
    """What one connection brings from a byte on: where each chunk begins, and the whole's length.

    A server without ranges begins at 0. Raises `Unreachable` for all that a network does.
    """
    request, whole = Request(url, headers={"Range": f"bytes={begin}-"} if begin else {}), None
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            begin = begin if answer.status == 206 else 0
            if length := answer.headers.get("Content-Length"):
                whole = begin + int(length)
            while chunk := answer.read(1 << 20):
                yield begin, whole, chunk
                begin += len(chunk)
    except (OSError, HTTPException) as e:  # also of TLS, of names and of routes
        if begin and isinstance(e, HTTPError) and e.code == 416:  # nothing is behind that byte
            return
        raise Unreachable(str(getattr(e, "reason", None) or e) or type(e).__name__) from e
    if whole is not None and begin < whole:
        raise Unreachable(f"only {begin} of {whole} bytes came")
