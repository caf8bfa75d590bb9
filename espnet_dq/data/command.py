"""Audio that a command writes to its output, read while it is written."""

import io
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from espnet_dq.data.audio import read_stream, whole
from espnet_dq.data.clock import LONGEST
from espnet_dq.data.faults import EMPTY, AudioFault
from espnet_dq.data.virtual import Virtual

CHUNK = 1 << 20  # bytes that are asked for at a time, at least
IN_MEMORY = 1 << 26  # bytes of the output; what is longer goes to a temporary file
MOST = LONGEST * 48000 * 2 * 2  # bytes of output: the longest recording in stereo at 48 kHz
SAID = 4096  # bytes of a command's messages that are kept, the last


class _Output(Virtual):
    """What a process writes, as a file that can be read again: some containers need that.

    No more of it is taken than is asked for, so that a command without an end costs nothing once
    it is clear that it writes no audio.
    """

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (closed in close)
        self.size = 0
        self.ended = False

    def close(self) -> None:
        self.spool.close()
        super().close()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and not self.ended:
            return -1  # FFmpeg asks for the size, and this is its sign for what is not known
        return super().seek(offset, whence)

    def take(self, start: int, count: int) -> bytes:
        self.fill(start + count)
        self.spool.seek(start)
        return self.spool.read(count)

    def fill(self, end: int) -> None:
        """Take the output up to `end` bytes, or all if there are fewer; never more than `MOST`."""
        self.spool.seek(self.size)
        while self.size < min(end, MOST) and not self.ended:
            chunk = self.process.stdout.read(min(max(CHUNK, end - self.size), 64 * CHUNK))
            self.spool.write(chunk)
            self.size += len(chunk)
            self.ended = not chunk

    def drain(self) -> None:
        """Let the command write what nobody needs, so that it can end by itself."""
        rest = MOST - self.size
        while not self.ended and rest > 0:
            chunk = self.process.stdout.read(CHUNK)
            rest -= len(chunk)
            self.ended = not chunk


class _Forward:
    """An output without a way back, so that FFmpeg looks for nothing at its end."""

    def __init__(self, output: _Output) -> None:
        self.read = output.read


def _blocks(name: str, output: _Output, channel: int | None) -> Iterator[np.ndarray]:
    """The audio in the output: of a short one all at once, of others as it comes if it can be."""
    output.fill(IN_MEMORY)
    if not output.ended:
        blocks = read_stream(name, _Forward(output), channel)
        try:
            first = next(blocks)
        except AudioFault:  # perhaps of a container whose index stands at its end
            output.seek(0)
        else:
            yield first
            yield from blocks
            return
    yield from read_stream(name, output, channel)


@contextmanager
def _running(command: str) -> Iterator[tuple[_Output, Callable[[], bytes]]]:
    """A command's output, and what gives the end of its messages once it has ended.

    It does not outlive the block.
    """
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    said = [b""]

    def listen() -> None:
        while chunk := process.stderr.read(SAID):
            said[0] = (said[0] + chunk)[-SAID:]

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()

    def last_words() -> bytes:
        listener.join(timeout=1.0)  # what the command has started may hold its messages open
        return said[0]

    try:
        with _Output(process) as output:
            yield output, last_words
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()  # what the shell began and left ends at its next word
        process.wait()
        listener.join(timeout=1.0)


def load_command(command: str, channel: int | None = None) -> np.ndarray:
    """Samples of the audio that a command writes to its output, as `load_audio` gives them.

    Args:
        command: A line for the shell, as Kaldi runs those of `wav.scp`: it is the user's own, so
            it is run only where that was asked for.
        channel: Which channel, from 0; None: the mean of all.

    Raises:
        AudioFault: The command failed, or wrote no audio, or there is no end to it.
    """
    with _running(command) as (output, last_words):
        fault = sound = None
        try:
            sound = whole(f"'{command}'", _blocks(f"'{command}'", output, channel))
        except AudioFault as e:
            fault = e
        if fault is None:
            output.drain()
        # One that failed says why better than what it wrote before. Others may go on forever.
        code = output.process.wait() if _ends(output) else 0
        if code:
            last = last_words().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise AudioFault(": ".join([f"'{command}' failed, exit code {code}", *last]))
        if output.ended and not output.size:
            raise AudioFault(f"'{command}' wrote no audio", EMPTY)
        if fault:
            raise fault
        if not output.ended:
            raise AudioFault(f"'{command}' writes more than {MOST / 1e9:.3g} GB")
        return sound


def _ends(output: _Output) -> bool:
    """Whether nothing more of the output is to come, by a look at the next piece of it."""
    if not output.ended:
        output.ended = not output.process.stdout.read(CHUNK)
    return output.ended
