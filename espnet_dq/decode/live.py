"""What is said into a microphone, while it is said.

An utterance ends with a pause, as Silero's model hears it, or where the runtime's window is full.
Until then it is heard again and again from its beginning, so what is said of it may still change.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from shutil import get_terminal_size
from typing import BinaryIO
from unicodedata import combining, east_asian_width

import numpy as np

from espnet_dq.data.audio import SAMPLE_RATE
from espnet_dq.decode.transcribe import SURE, transcribe_pieces
from espnet_dq.errors import InputError
from espnet_dq.runtimes.interface import Runtime, Segment, failures, heard

STEP = 1.0  # seconds that are waited for, before what is held is heard again
PAUSE = 0.8  # seconds without speech that end an utterance
EDGE = 0.4  # seconds around an utterance that are heard with it, as faster-whisper does
SHORTEST = 0.25  # seconds of an utterance: of less nobody speaks (Silero's own default)
MOST = 30.0  # seconds that are taken at a time, of a source that is faster than speech
BEHIND = 300  # seconds that are kept of what has not been heard yet; then the source waits
_BYTES = 2 * SAMPLE_RATE  # of a second
# What files begin with that are no samples alone.
FILES = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"FORM": "AIFF", b"caff": "CAF",
         b"ID3\x03": "MP3", b"ID3\x04": "MP3"}  # fmt: skip


def arriving(stream: BinaryIO, ended: threading.Event) -> Iterator[np.ndarray]:
    """What comes in, as it comes: (samples,) float32, `STEP` to `MOST` of them but for the last.

    Another thread reads it, so that a source which cannot wait loses nothing meanwhile.

    Args:
        stream: samples of 16 bits, little-endian, mono at 16 kHz, without a header.
        ended: what comes after it was set is not heard.

    Raises:
        InputError: the stream is a file of another kind.
    """
    chunks: queue.Queue[bytes | OSError] = queue.Queue(10 * BEHIND)

    def read() -> None:
        part = b""  # some write little at a time
        try:
            while (chunk := stream.read(_BYTES // 10)) != b"":
                part += chunk or b""  # none where the input does not wait
                if chunk is None:
                    time.sleep(0.02)
                if len(part) >= _BYTES // 10:
                    chunks.put(part)
                    part = b""
            chunks.put(part)
            chunks.put(b"")
        except OSError as e:
            chunks.put(e)

    threading.Thread(target=read, daemon=True).start()
    held, more, begun, left = b"", True, False, None
    while more:
        while more and len(held) < _BYTES * (STEP if chunks.empty() else MOST):
            if left is None and ended.is_set():
                left = chunks.qsize()  # what has come until then
            if left == 0:
                more = False
                continue
            try:
                chunk = chunks.get(timeout=0.1)
            except queue.Empty:
                continue
            if isinstance(chunk, OSError):
                raise chunk
            held, more = held + chunk, chunk != b""
            left = left and left - 1
        if not begun and (kind := FILES.get(held[:4])):
            raise InputError(f"stdin: is a {kind} file, not samples alone (arecord -t raw)")
        begun, whole = True, len(held) // 2 * 2
        yield np.frombuffer(held[:whole], "<i2").astype(np.float32) / 32768
        held = held[whole:]


def transcribe_live(
    runtime: Runtime,
    blocks: Iterable[np.ndarray],
    language: str | None,
    partial: Callable[[str], None] = lambda _: None,
    detected: Callable[[str | None, float], None] = lambda *_: None,
    guarded: bool = True,
) -> Iterator[Segment]:
    """A segment for each utterance, when it has ended, with times from the beginning.

    Args:
        runtime: what decodes, see `load_runtime`.
        blocks: consecutive (samples,) float32 at 16 kHz, as of `arriving`.
        language: code; None: that of the first whole utterance of which the model is sure, and
            until then of each.
        partial: takes what is heard of an utterance that goes on; empty if nobody speaks.
        detected: takes the language, once that is sure, and how probable it is.
        guarded: as in `espnet_dq.decode.transcribe`.

    Raises:
        WorkError: the runtime failed.
    """

    def settled(at: int, audio: np.ndarray) -> Iterator[Segment]:
        nonlocal language
        partial("")
        of, sure = spoken(audio)
        if language is None and sure >= SURE:
            language = of
            detected(of, sure)
        parts = [(at, audio)]
        yield from transcribe_pieces(runtime, parts, of, False, guarded, cut=lambda parts: parts)

    def spoken(audio: np.ndarray) -> tuple[str, float]:
        if language is not None:
            return language, 1.0
        if len(runtime.languages) == 1:
            return next(iter(runtime.languages)), 1.0
        with failures():
            return runtime.detect(heard(audio))

    held, start = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        gone, said = max(len(held) - round(EDGE * SAMPLE_RATE), 0), ""
        for first, last, over in _utterances(held, runtime.window):
            audio, gone = held[first:last], last if over else first
            if over:
                yield from settled(start + first, audio)
            else:
                with failures():
                    said = runtime.decode([heard(audio)], spoken(audio)[0])[0].text
        partial(said)
        start, held = start + gone, held[gone:]
    for first, last, _ in _utterances(held, runtime.window):
        yield from settled(start + first, held[first:last])


def _utterances(audio: np.ndarray, window: float) -> list[tuple[int, int, bool]]:
    """Where somebody speaks, in samples, with `EDGE` around it, and whether a pause is behind it.

    Where speech goes on for longer than the window, it is cut in the last short pause.
    """
    from faster_whisper.vad import VadOptions, get_speech_timestamps  # imports onnxruntime

    options = VadOptions(
        min_silence_duration_ms=round(1000 * PAUSE),
        min_speech_duration_ms=round(1000 * SHORTEST),
        max_speech_duration_s=window - 2 * EDGE,
        speech_pad_ms=0,
    )
    spans = [(span["start"], span["end"]) for span in get_speech_timestamps(audio, options)]
    edge, found, before = round(EDGE * SAMPLE_RATE), [], 0
    for number, (first, last) in enumerate(spans):
        after = spans[number + 1][0] if number + 1 < len(spans) else len(audio)
        found.append((max(first - edge, before), min(last + edge, after), last < len(audio)))
        before = found[-1][1]
    return found


def last_columns(text: str) -> str:
    """What of a text fits at its end into one line of the terminal."""
    room = get_terminal_size().columns - 1
    for at in range(len(text) - 1, -1, -1):
        room -= 2 if east_asian_width(text[at]) in "WF" else not combining(text[at])
        if room < 0:
            return text[at + 1 :]
    return text
