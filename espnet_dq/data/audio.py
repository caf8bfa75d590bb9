"""Audio in, mono float32 at 16 kHz out: from files, or from a command that writes them.

WAV and FLAC that are already at 16 kHz go through soundfile, all else (g722, ogg, mp3, other
sample rates) through PyAV, which brings its own FFmpeg libraries: no system ffmpeg is needed.
"""

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import soundfile

from espnet_dq.errors import InputError
from espnet_dq.files import atomic

SAMPLE_RATE = 16000  # Hz
BLOCK = 10 * SAMPLE_RATE  # samples that are read at a time
SOUNDFILE = (".wav", ".flac")


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn what soundfile and PyAV raise within into an `InputError` that names the file."""
    try:
        yield
    except soundfile.LibsndfileError as e:
        raise InputError(f"{path}: corrupt audio: {e.error_string}") from e
    except av.FFmpegError as e:
        raise InputError(f"{path}: corrupt audio: {e.strerror}") from e
    except InputError as e:
        raise InputError(f"{path}: {e}") from e


def read_audio(path: Path | str, channel: int | None = None) -> Iterator[np.ndarray]:
    """Blocks of an audio file, in order, each read when it is asked for; the memory of one.

    Args:
        path: The file.
        channel: Which channel, from 0; None: the mean of all.

    Yields:
        (samples,) float32, mono, 16 kHz, in [-1, 1]; at least `BLOCK` samples but for the last.

    Raises:
        InputError: The file is missing, corrupt, shorter than its header says, or empty, or has
            no such channel. What is wrong in the middle of a file is only found there.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such audio file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: empty audio file")
    read = _read_16k if at_16k(path) else _decode
    yield from _sound(path, read(path, channel))


def load_audio(path: Path | str, channel: int | None = None) -> np.ndarray:
    """All samples of an audio file, (samples,) float32; see `read_audio`, also for its errors."""
    return np.concatenate(list(read_audio(path, channel)))


def load_command(command: str, channel: int | None = None) -> np.ndarray:
    """Samples of the audio that a command writes to its output, as `load_audio` gives them.

    Args:
        command: A line for the shell, as Kaldi runs those of `wav.scp`: it is the user's own, so
            it is run only where that was asked for.
        channel: Which channel, from 0; None: the mean of all.

    Raises:
        InputError: The command failed, or wrote no audio.
    """
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise InputError(": ".join([f"'{command}' failed, exit code {done.returncode}", *said]))
    if not done.stdout:
        raise InputError(f"'{command}' wrote no audio")
    # Not by soundfile: headers of streams tell lengths that nobody knew when they were written.
    blocks = _decode(io.BytesIO(done.stdout), channel)
    return np.concatenate(list(_sound(f"'{command}'", blocks)))


def _sound(name: Path | str, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks, if there are any and all samples are numbers."""
    empty = True
    while True:
        with naming(name):
            block = next(blocks, None)
        if block is None:
            break
        if not np.isfinite(block).all():
            raise InputError(f"{name}: corrupt audio: samples that are not numbers")
        empty = False
        yield block
    if empty:
        raise InputError(f"{name}: audio without a sample")


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """(samples,) of (channels, samples): one of them, or their mean."""
    if channel is None:
        return samples.mean(axis=0, dtype=np.float32)
    if channel >= len(samples):
        raise InputError(f"no channel {channel}: it has {len(samples)}, counted from 0")
    return samples[channel]


def at_16k(path: Path, channels: int | None = None) -> bool:
    """Whether the file is WAV or FLAC at 16 kHz (and has so many channels).

    Raises:
        InputError: A WAV or FLAC file's header is broken.
    """
    if path.suffix.lower() not in SOUNDFILE:
        return False
    with naming(path):
        info = soundfile.info(path)
    return info.samplerate == SAMPLE_RATE and channels in (None, info.channels)


def _read_16k(path: Path, channel: int | None) -> Iterator[np.ndarray]:
    """Read WAV or FLAC at 16 kHz, all of it or an error."""
    with open(path, "rb") as f:
        head = f.read(8)
    # libsndfile takes what is there of a truncated WAV without a word (but refuses a truncated
    # FLAC). 0xFFFFFFFF and 0 stand in the headers of streams of unknown length.
    promised = int.from_bytes(head[4:8], "little")
    if head[:4] == b"RIFF" and promised not in (0, 0xFFFFFFFF):
        size = os.path.getsize(path)
        if promised + 8 > size + 1:  # an odd chunk's padding byte is often left out
            raise InputError(f"truncated: {size} bytes, its header says {promised + 8}")
    with soundfile.SoundFile(path) as file:
        while len(samples := file.read(BLOCK, dtype="float32", always_2d=True)):
            yield _mono(samples.T, channel)


def _decode(source: Path | io.BytesIO, channel: int | None) -> Iterator[np.ndarray]:
    """Decode anything FFmpeg knows; resample to 16 kHz mono."""
    # The channels stay apart: FFmpeg's own mix of two is louder than their mean.
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
    parts: list[np.ndarray] = []
    heard = False
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        if not container.streams.audio:
            raise InputError("no audio in this file")
        for frame in container.decode(audio=0):
            parts += [_mono(out.to_ndarray(), channel) for out in resampler.resample(frame)]
            if sum(map(len, parts)) >= BLOCK:
                yield np.concatenate(parts)
                parts = []
            heard = True
    if heard:
        parts += [_mono(out.to_ndarray(), channel) for out in resampler.resample(None)]
    if sum(map(len, parts)):
        yield np.concatenate(parts)


def save_wav(path: Path | str, samples: np.ndarray) -> None:
    """Write (samples,) float32 at 16 kHz as 16-bit WAV, whole or not at all.

    The rounding is the inverse of decoding (`integer / 32768`), so what was 16-bit before
    comes through bit for bit.
    """
    integers = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    content = io.BytesIO()  # libsndfile hides the reason when a disk is full
    soundfile.write(content, integers, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    with atomic(path) as tmp:
        # Not getbuffer(): Python crashes at its end if an error still holds one.
        tmp.write_bytes(content.getvalue())


def to_wav(source: Path, wav: Path) -> int:
    """Decode `source` into the 16 kHz WAV `wav`, unless that was done before; its samples.

    Raises:
        InputError: As in `load_audio`.
    """
    if not is_made_of(wav, source):
        save_wav(wav, load_audio(source))
        mark(wav, source)
    return soundfile.info(wav).frames


def mark(made: Path, source: Path) -> None:
    """Give a file the time of what it was made of, so that `is_made_of` knows it."""
    os.utime(made, ns=(source.stat().st_mtime_ns,) * 2)


def is_made_of(made: Path, source: Path) -> bool:
    """Whether a file was made of `source` as that is now.

    "Not older" would not say so: a clock that was ahead when it was made hides every later change.
    """
    # Not every file system keeps nanoseconds.
    return made.exists() and abs(made.stat().st_mtime - source.stat().st_mtime) < 1e-3


def seconds(path: Path | str) -> float:
    """Length by the file's header, without reading the audio.

    Raises:
        InputError: The file is missing, or its header is broken or tells no length.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such audio file")
    with naming(path):
        if path.suffix.lower() in SOUNDFILE:
            return soundfile.info(path).duration
        with av.open(str(path)) as container:
            length = container.duration
    if length is None:
        raise InputError(f"{path}: its header tells no length")
    return length / av.time_base
