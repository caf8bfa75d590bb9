"""Audio that another process reads, so that a file which crashes its decoder costs only itself.

`python -Pm espnet_dq.data.apart` is that process: a line of JSON, `[path, folder that it is
relative to or null, channel, whether damage is told]`, asks it for a file's blocks. Each comes as
its number of samples, 8 bytes, and these, 4 bytes each; END ends them, and FAULT with a number of
bytes and the JSON of an `AudioFault`. DAMAGE comes between them, with the JSON of a line.
"""

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from espnet_dq.data.audio import read_audio
from espnet_dq.data.faults import CRASH, AudioFault

NUMBER = struct.Struct("<q")
END, FAULT, DAMAGE = -1, -2, -3

# Of files that this process has open: `transcribe /dev/stdin < call.wav`.
_OPEN = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")
_idle: list[subprocess.Popen] = []  # those that wait for another file


def read_apart(
    path: Path | str, channel: int | None = None, damage: Callable[[str], None] | None = None
) -> Iterator[np.ndarray]:
    """`read_audio`, done by another process.

    Raises:
        AudioFault: As `read_audio`, or that process ended.
    """
    reader, whole = _reader(), False
    try:
        yield from _blocks(reader, path, channel, damage)
        whole = True
    except (BrokenPipeError, EOFError) as e:
        why = _death(reader.wait())
        raise AudioFault(f"{path}: the process that read it {why}", CRASH) from e
    except AudioFault:
        whole = True
        raise
    finally:
        if whole:
            _idle.append(reader)
        else:
            _end(reader)


def _blocks(
    reader: subprocess.Popen,
    path: Path | str,
    channel: int | None,
    damage: Callable[[str], None] | None,
) -> Iterator[np.ndarray]:
    folder = None if os.path.isabs(path) else os.getcwd()  # the reader may be of another one
    if os.path.isfile(path) and str(path).startswith(_OPEN):  # by us, not by the reader
        path = os.path.realpath(path)
    asked = [str(path), folder, channel, damage is not None]
    reader.stdin.write(json.dumps(asked).encode() + b"\n")
    reader.stdin.flush()
    while (count := _number(reader)) != END:
        if count >= 0:
            yield np.frombuffer(_take(reader, 4 * count), np.float32).copy()
            continue
        said = json.loads(_take(reader, _number(reader)))
        if count == FAULT:
            raise AudioFault(*said)
        damage(said)


def _take(reader: subprocess.Popen, size: int) -> bytes:
    content = reader.stdout.read(size)
    if len(content) < size:
        raise EOFError
    return content


def _number(reader: subprocess.Popen) -> int:
    return NUMBER.unpack(_take(reader, NUMBER.size))[0]


def _death(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def _reader() -> subprocess.Popen:
    while _idle:
        reader = _idle.pop()
        if reader.poll() is None:
            return reader
        _end(reader)
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "espnet_dq.data.apart"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


@atexit.register
def _end_all() -> None:
    while _idle:
        _end(_idle.pop())


def _end(reader: subprocess.Popen) -> None:
    reader.kill()
    reader.wait()
    reader.stdout.close()
    with suppress(BrokenPipeError):  # what it had not read
        reader.stdin.close()


def main() -> None:
    """Answer what is asked on stdin until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted, and ends this
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not disturb

    def say(kind: int, what: object) -> None:
        said = json.dumps(what).encode()
        out.write(NUMBER.pack(kind) + NUMBER.pack(len(said)) + said)

    for line in sys.stdin.buffer:
        path, folder, channel, told = json.loads(line)
        if folder is not None:
            os.chdir(folder)
        try:
            for block in read_audio(path, channel, partial(say, DAMAGE) if told else None):
                out.write(NUMBER.pack(len(block)))
                out.write(np.ascontiguousarray(block, np.float32))
                out.flush()
            out.write(NUMBER.pack(END))
        except AudioFault as e:
            say(FAULT, [str(e), e.cause])
        out.flush()


if __name__ == "__main__":
    main()
