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
LONGEST = 24 * 3600  # seconds that are held in memory, 5.5 GB: a small file can become that long
# Containers that FFmpeg may take a file for. Left out are lists of other files and addresses (hls,
# concat, sdp, ...), which it would open: a playlist in a corpus must not reach what is beside it.
CONTAINERS = (
    "aac,ac3,aiff,alaw,amr,amrnb,amrwb,ape,asf,au,avi,avr,caf,codec2,dsf,dss,dts,eac3,flac,flv,"
    "g722,g723_1,g726,g726le,g729,gsm,ilbc,ircam,lc3,loas,matroska,mlp,mmf,mov,mp3,mpc,mpc8,mpeg,"
    "mpegts,mulaw,mxf,nistsphere,nut,ogg,oma,pvf,qcp,rm,rso,shn,sln,sox,tak,truehd,tta,voc,vqf,"
    "w64,wav,wv,wve,xwma"
)
SLOWEST = 4000  # Hz: below, vowels and all fricatives are gone; telephones have 8000

# Why audio cannot be read, as those who count what is left out name it.
NO_AUDIO = "no such audio file"
EMPTY = "empty audio"
TRUNCATED = "truncated audio"
UNREADABLE = "unreadable audio"
NOT_NUMBERS = "samples that are not numbers"
LOW_RATE = "a sampling rate below 4 kHz"


class AudioFault(InputError):
    """Audio that cannot be read: the line says which and why, `cause` is one of those above."""

    def __init__(self, line: str, cause: str = UNREADABLE):
        super().__init__(line)
        self.cause = cause


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn what soundfile and PyAV raise within into an `AudioFault` that names the file."""
    try:
        yield
    except soundfile.LibsndfileError as e:
        raise AudioFault(f"{path}: corrupt audio: {e.error_string}") from e
    except av.FFmpegError as e:
        raise AudioFault(f"{path}: corrupt audio: {e.strerror}") from e
    except AudioFault as e:
        raise AudioFault(f"{path}: {e}", e.cause) from e


def read_audio(path: Path | str, channel: int | None = None) -> Iterator[np.ndarray]:
    """Blocks of an audio file, in order, each read when it is asked for; the memory of one.

    Args:
        path: The file.
        channel: Which channel, from 0; None: the mean of all.

    Yields:
        (samples,) float32, mono, 16 kHz, in [-1, 1]; at least `BLOCK` samples but for the last.

    Raises:
        AudioFault: The file is missing, corrupt, shorter than its header says, or empty, or has
            no such channel, or too low a rate. What is wrong in the middle of a file is only found
            there. That a rate in a header is not the true one cannot be told from the samples, and
            a lossy file that was cut off says so only if its format does.
    """
    path = Path(path)
    read = _read_16k if at_16k(path) else _decode
    yield from _sound(path, read(path, channel))


def load_audio(path: Path | str, channel: int | None = None) -> np.ndarray:
    """All samples of an audio file, (samples,) float32, `LONGEST` at most; see `read_audio`."""
    return _whole(path, read_audio(path, channel))


def load_command(command: str, channel: int | None = None) -> np.ndarray:
    """Samples of the audio that a command writes to its output, as `load_audio` gives them.

    Args:
        command: A line for the shell, as Kaldi runs those of `wav.scp`: it is the user's own, so
            it is run only where that was asked for.
        channel: Which channel, from 0; None: the mean of all.

    Raises:
        AudioFault: The command failed, or wrote no audio.
    """
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise AudioFault(": ".join([f"'{command}' failed, exit code {done.returncode}", *said]))
    if not done.stdout:
        raise AudioFault(f"'{command}' wrote no audio", EMPTY)
    # Not by soundfile: headers of streams tell lengths that nobody knew when they were written.
    blocks = _decode(io.BytesIO(done.stdout), channel)
    return _whole(f"'{command}'", _sound(f"'{command}'", blocks))


def _sound(name: Path | str, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks, if there are any and all samples are numbers."""
    empty = True
    while True:
        with naming(name):
            block = next(blocks, None)
        if block is None:
            break
        if not np.isfinite(block).all():
            raise AudioFault(f"{name}: corrupt audio: {NOT_NUMBERS}", NOT_NUMBERS)
        empty = False
        yield block
    if empty:
        raise AudioFault(f"{name}: audio without a sample", EMPTY)


def _whole(name: Path | str, blocks: Iterator[np.ndarray]) -> np.ndarray:
    """(samples,) of all blocks; `AudioFault` when there is no end to them."""
    taken, left = [], LONGEST * SAMPLE_RATE
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise AudioFault(f"{name}: longer than {LONGEST / 3600:g} hours")
        taken.append(block)
    return np.concatenate(taken)


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """(samples,) of (channels, samples): one of them, or their mean."""
    if channel is None:
        return samples.mean(axis=0, dtype=np.float32)
    if channel >= len(samples):
        raise AudioFault(f"no channel {channel}: it has {len(samples)}, counted from 0")
    return samples[channel]


def _check_bytes(path: Path) -> None:
    """Raise an `AudioFault` for a file that is not there, is empty, or is a WAV cut short."""
    if not path.is_file():
        raise AudioFault(f"{path}: {NO_AUDIO}", NO_AUDIO)
    size = os.path.getsize(path)
    if size == 0:
        raise AudioFault(f"{path}: empty audio file", EMPTY)
    with open(path, "rb") as f:
        head = f.read(8)
    # libsndfile and FFmpeg take what is there of a truncated WAV without a word (but refuse a
    # truncated FLAC). 0xFFFFFFFF and 0 stand in the headers of streams of unknown length.
    promised = int.from_bytes(head[4:8], "little")
    # An odd chunk's padding byte is often left out.
    if head[:4] == b"RIFF" and promised not in (0, 0xFFFFFFFF) and promised + 8 > size + 1:
        line = f"{path}: truncated: {size} bytes, its header says {promised + 8}"
        raise AudioFault(line, TRUNCATED)


def _check_rate(rate: int) -> None:
    if rate < SLOWEST:
        raise AudioFault(f"sampled at {rate} Hz", LOW_RATE)


def at_16k(path: Path, channels: int | None = None) -> bool:
    """Whether the file is WAV or FLAC at 16 kHz (and has so many channels).

    Raises:
        AudioFault: The file is missing, empty or cut short, or its header is broken.
    """
    _check_bytes(path)
    if path.suffix.lower() not in SOUNDFILE:
        return False
    with naming(path):
        info = soundfile.info(path)
    return info.samplerate == SAMPLE_RATE and channels in (None, info.channels)


def _read_16k(path: Path, channel: int | None) -> Iterator[np.ndarray]:
    """Read WAV or FLAC at 16 kHz, all of it or an error."""
    with soundfile.SoundFile(path) as file:
        while len(samples := file.read(BLOCK, dtype="float32", always_2d=True)):
            yield _mono(samples.T, channel)


def _open(source: Path | io.BytesIO) -> av.container.InputContainer:
    """What FFmpeg makes of a file, or of a command's output, and of nothing else."""
    # A name with a colon would be taken for an address.
    file = f"file:{source}" if isinstance(source, Path) else source
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        return av.open(file, options=options)
    except av.ArgumentError as e:
        raise AudioFault("corrupt, or not one of the containers that are read") from e


def _decode(source: Path | io.BytesIO, channel: int | None) -> Iterator[np.ndarray]:
    """Decode anything FFmpeg knows; resample to 16 kHz mono."""
    # The channels stay apart: FFmpeg's own mix of two is louder than their mean.
    resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
    parts: list[np.ndarray] = []
    heard = False
    with _open(source) as container:
        if not container.streams.audio:
            raise AudioFault("no audio in this file")
        _check_rate(container.streams.audio[0].rate)
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
        AudioFault: As in `load_audio`.
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
        AudioFault: The file is missing, empty or cut short, or its header is broken or tells no
            length.
    """
    path = Path(path)
    _check_bytes(path)
    with naming(path):
        if path.suffix.lower() in SOUNDFILE:
            return soundfile.info(path).duration
        with _open(path) as container:
            length = container.duration
    if length is None:
        raise AudioFault(f"{path}: its header tells no length")
    return length / av.time_base
