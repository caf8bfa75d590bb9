"""Audio in, mono float32 at 16 kHz out.

WAV and FLAC that are already at 16 kHz go through soundfile, all else (g722, ogg, mp3, other
sample rates) through PyAV, which brings its own FFmpeg libraries: no system ffmpeg is needed.
"""

import os
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile

from espnet_dq.data.names import path_fault
from espnet_dq.errors import InputError
from espnet_dq.files import atomic, sha256

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
RESAMPLED = 64  # channels that FFmpeg's resampler takes
WIDE = 8  # channels of which `BLOCK` samples are read at once; of more, fewer
SLOWEST = 4000  # Hz: below, vowels and all fricatives are gone; telephones have 8000

# Why audio cannot be read, as those who count what is left out name it.
NO_AUDIO = "no such audio file"
EMPTY = "empty audio"
TRUNCATED = "truncated audio"
UNREADABLE = "unreadable audio"
NOT_NUMBERS = "samples that are not numbers"
LOW_RATE = "a sampling rate below 4 kHz"
CRASH = "audio that ended its reader"


class Readable(Protocol):
    """An open file; without `seek` it is taken for a stream."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer, or none at the end."""


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
    except OSError as e:
        raise AudioFault(f"{path}: cannot be read: {e.strerror or type(e).__name__}") from e
    # PyAV's, of layouts, rates and texts in headers that it does not know.
    except (ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError) as e:
        why = " ".join(f"{type(e).__name__} {e}".split())
        raise AudioFault(f"{path}: corrupt audio: {why}") from e
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


def read_stream(name: str, stream: Readable, channel: int | None) -> Iterator[np.ndarray]:
    """`read_audio` of an open file that is called `name`."""
    # Not by soundfile: headers of streams tell lengths that nobody knew when they were written.
    yield from _sound(name, _decode(stream, channel))


def load_audio(path: Path | str, channel: int | None = None) -> np.ndarray:
    """All samples of an audio file, (samples,) float32, `LONGEST` at most; see `read_audio`."""
    return whole(path, read_audio(path, channel))


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


def limited(name: Path | str, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The blocks; `AudioFault` when there is no end to them."""
    left = LONGEST * SAMPLE_RATE
    for block in blocks:
        left -= len(block)
        if left < 0:
            raise AudioFault(f"{name}: longer than {LONGEST / 3600:g} hours")
        yield block


def whole(name: Path | str, blocks: Iterable[np.ndarray]) -> np.ndarray:
    """(samples,) of all blocks, `LONGEST` at most, in little more memory than they need."""
    sound, length = np.empty(0, np.float32), 0
    for block in limited(name, blocks):
        end = length + len(block)
        if end > len(sound):
            # In place: the system moves pages, nothing is held twice. By an eighth: often enough
            # that little is free in the end, seldom enough that it costs nothing.
            sound.resize(max(end, length + length // 8), refcheck=False)
        sound[length:end] = block
        length = end
    sound.resize(length, refcheck=False)
    return sound


def _mono(samples: np.ndarray, channel: int | None) -> np.ndarray:
    """(samples,) of (samples, channels): one of them, or their mean."""
    if channel is None:
        return samples.T.mean(axis=0, dtype=np.float32)
    if channel >= samples.shape[1]:
        raise AudioFault(f"no channel {channel}: it has {samples.shape[1]}, counted from 0")
    return samples[:, channel]


def _gathered(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """(samples,) of any length as blocks of `BLOCK` samples at least, but for the last."""
    held: list[np.ndarray] = []
    length = 0
    for part in parts:
        held.append(part)
        length += len(part)
        if length >= BLOCK:
            yield np.concatenate(held)
            held, length = [], 0
    if length:
        yield np.concatenate(held)


def _check_bytes(path: Path) -> None:
    """Raise an `AudioFault` for a file that is not there, is empty, or is a WAV cut short."""
    fault = path_fault(str(path))
    if fault and not os.path.isfile(path):
        raise AudioFault(f"{path}: a path that {fault}", NO_AUDIO)
    # Pipes and devices have no end, or wait for one who writes.
    if not os.path.isfile(path):
        raise AudioFault(f"{path}: {NO_AUDIO}", NO_AUDIO)
    size = os.path.getsize(path)
    if size == 0:
        raise AudioFault(f"{path}: empty audio file", EMPTY)
    with naming(path), open(path, "rb") as f:
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
        info = soundfile.info(os.fsencode(path))
    return info.samplerate == SAMPLE_RATE and channels in (None, info.channels)


def _read_16k(path: Path, channel: int | None) -> Iterator[np.ndarray]:
    """Read WAV or FLAC at 16 kHz, all of it or an error."""
    with soundfile.SoundFile(os.fsencode(path)) as file:
        yield from _gathered(_mono(samples, channel) for samples in _samples(file))


def _samples(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """(samples, channels) float32 of a file, so many at a time that their memory is bounded."""
    size = WIDE * BLOCK // max(WIDE, file.channels)
    while len(samples := file.read(size, dtype="float32", always_2d=True)):
        yield samples


def _open(source: Path | Readable) -> av.container.InputContainer:
    """What FFmpeg makes of a file, or of a command's output, and of nothing else."""
    # A name with a colon would be taken for an address.
    file = f"file:{source}" if isinstance(source, Path) else source
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        # Titles in other encodings than UTF-8 are no fault of the sound.
        return av.open(file, options=options, metadata_errors="replace")
    except av.ArgumentError as e:
        raise AudioFault("corrupt, or not one of the containers that are read") from e


def _decode(source: Path | Readable, channel: int | None) -> Iterator[np.ndarray]:
    """Decode anything FFmpeg knows; resample to 16 kHz mono."""
    with _open(source) as container:
        if not container.streams.audio:
            raise AudioFault("no audio in this file")
        stream = container.streams.audio[0]
        _check_rate(stream.rate)
        if stream.channels <= RESAMPLED:
            parts = (_mono(_packed(frame), channel) for frame in _resampled(container))
            yield from _gathered(parts)
            return
    yield from _gathered(_decode_wide(source, channel))


def _resampled(container: av.container.InputContainer) -> Iterator[av.AudioFrame]:
    """The frames of the first stream of sound, packed float32 at 16 kHz."""
    # The channels stay apart: FFmpeg's own mix of two is louder than their mean. They are packed:
    # of eight planes and more PyAV reads beyond the last.
    resampler, before = None, None
    for frame in container.decode(audio=0):
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if kind != before:  # in the middle, too: broadcasts change from stereo to mono
            if resampler:
                yield from resampler.resample(None)
            _check_rate(frame.sample_rate)
            resampler, before = av.AudioResampler(format="flt", rate=SAMPLE_RATE), kind
        yield from resampler.resample(frame)
    if resampler:
        yield from resampler.resample(None)


def _packed(frame: av.AudioFrame) -> np.ndarray:
    """(samples, channels) of a frame of packed float32."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels)


def _decode_wide(source: Path | Readable, channel: int | None) -> Iterator[np.ndarray]:
    """Parts of audio with more channels than FFmpeg resamples: mixed first, by libsndfile."""
    if not isinstance(source, Path):
        if not hasattr(source, "seek"):
            raise AudioFault(f"more than {RESAMPLED} channels in a stream")
        source.seek(0)
    resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
    with soundfile.SoundFile(os.fsencode(source) if isinstance(source, Path) else source) as file:
        for samples in _samples(file):
            mono = np.ascontiguousarray(_mono(samples, channel))
            frame = av.AudioFrame.from_ndarray(mono[None], format="flt", layout="mono")
            frame.sample_rate = file.samplerate
            yield from (out.to_ndarray()[0] for out in resampler.resample(frame))
    yield from (out.to_ndarray()[0] for out in resampler.resample(None))


def save_wav(path: Path | str, samples: np.ndarray) -> None:
    """Write (samples,) float32 at 16 kHz as 16-bit WAV, whole or not at all.

    The rounding is the inverse of decoding (`integer / 32768`), so what was 16-bit before
    comes through bit for bit.
    """
    write_wav(path, (samples[i : i + BLOCK] for i in range(0, len(samples), BLOCK)))


def write_wav(path: Path | str, blocks: Iterable[np.ndarray]) -> int:
    """`save_wav` of blocks, in the memory of one; returns how many samples they had."""
    count = 0
    # Not by libsndfile, which hides the reason when a disk is full.
    with atomic(path) as tmp, open(tmp, "wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        for block in blocks:
            integers = np.clip(np.rint(block * np.float32(32768)), -32768, 32767)
            out.writeframesraw(integers.astype("<i2").tobytes())
            count += len(block)
        out.writeframes(b"")  # the header of one without a sample, too
    return count


def to_wav(source: Path, wav: Path, channel: int | None = None) -> int:
    """Decode `source` into the 16 kHz WAV `wav`, unless that is there; its samples.

    Block by block, so in little memory. Whether `wav` is of the source as that is now its name has
    to say: see `content_mark`.

    Raises:
        AudioFault: As in `load_audio`.
    """
    if wav.exists():
        return soundfile.info(os.fsencode(wav)).frames
    return write_wav(wav, limited(source, read_audio(source, channel)))


def content_mark(source: Path | str) -> str:
    """16 hex digits of a file's content, for the names of what is made of it.

    Its time and size do not tell: what packages and images hold is often equally old, and one
    prompt as long as another. To read the bytes costs a fraction of what stage 2 does with the
    samples anyway, needs no file beside each of a million, and outlives copies of either.

    Raises:
        AudioFault: There is no such file, or it cannot be read.
    """
    _check_bytes(Path(source))
    with naming(source):
        return sha256(source)[:16]


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
            return soundfile.info(os.fsencode(path)).duration
        with _open(path) as container:
            length = container.duration
    if length is None:
        raise AudioFault(f"{path}: its header tells no length")
    return length / av.time_base
