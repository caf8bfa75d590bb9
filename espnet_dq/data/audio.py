"""Audio in, mono float32 at 16 kHz out.

FLAC, and WAV at 16 kHz, go through soundfile, all else (g722, ogg, mp3, other sample rates) through
PyAV, which brings its own FFmpeg libraries: no system ffmpeg is needed. The content decides, not
the name, and what one of them cannot open, the other is asked for.

Times are the file's: where it holds no sound, before the first frame or between two, there is
silence. Damage is an `AudioFault`, unless somebody wants to hear of it: the rest is then decoded.
"""

import os
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile

from espnet_dq.data.clock import BACK, HOLE, LONGEST, kind_of, on_time
from espnet_dq.data.faults import (
    DAMAGED,
    EMPTY,
    LOW_RATE,
    NO_AUDIO,
    NOT_NUMBERS,
    TRUNCATED,
    AudioFault,
    Report,
)
from espnet_dq.data.names import path_fault
from espnet_dq.data.spans import Span, spans
from espnet_dq.data.virtual import Part
from espnet_dq.errors import DQError
from espnet_dq.files import atomic, sha256

SAMPLE_RATE = 16000  # Hz
BLOCK = 10 * SAMPLE_RATE  # samples that are read at a time
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
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count of samples where the header tells none: 2^63 - 1
WEAK = ("HTK", "MAT4", "MP3", "MPC2K")  # which libsndfile sees in many bytes that are no audio
SLOWEST = 4000  # Hz: below, vowels and all fricatives are gone; telephones have 8000


class Readable(Protocol):
    """An open file; without `seek` it is taken for a stream."""

    def read(self, size: int, /) -> bytes:
        """So many bytes, or fewer, or none at the end."""


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
    except AudioFault as e:
        raise AudioFault(f"{path}: {e}", e.cause) from e
    except DQError:
        raise
    # PyAV's, of layouts, rates, texts in headers and whatever else it does not know.
    except Exception as e:
        why = " ".join(f"{type(e).__name__} {e}".split())
        raise AudioFault(f"{path}: corrupt audio: {why}") from e


def read_audio(
    path: Path | str, channel: int | None = None, damage: Callable[[str], None] | None = None
) -> Iterator[np.ndarray]:
    """Blocks of an audio file, in order, each read when it is asked for; the memory of one.

    Args:
        path: The file.
        channel: Which channel, from 0; None: the mean of all.
        damage: Takes a line for each damaged spot, with the file and the seconds; what can be
            decoded around it is, and silence stands in its place. None: damage is a fault.

    Yields:
        (samples,) float32, mono, 16 kHz, in [-1, 1]; at least `BLOCK` samples but for the last.

    Raises:
        AudioFault: The file is missing, corrupt, shorter than its header says, or empty, or has
            no such channel, or too low a rate. What is wrong in the middle of a file is only found
            there. That a rate in a header is not the true one cannot be told from the samples, and
            a lossy file that was cut off says so only if its format does.
    """
    path = Path(path)
    _check_file(path)
    report = Report(damage and (lambda line: damage(f"{path}: {line}")))
    yield from _sound(path, _gathered(_read(path, channel, report)), report)


def read_stream(name: str, stream: Readable, channel: int | None) -> Iterator[np.ndarray]:
    """`read_audio` of an open file that is called `name`."""
    # Not by soundfile: headers of streams tell lengths that nobody knew when they were written.
    yield from _sound(name, _gathered(_decode(stream, channel, Report())), Report())


def load_audio(path: Path | str, channel: int | None = None) -> np.ndarray:
    """All samples of an audio file, (samples,) float32, `LONGEST` at most; see `read_audio`."""
    return whole(path, read_audio(path, channel))


def _sound(name: Path | str, blocks: Iterator[np.ndarray], report: Report) -> Iterator[np.ndarray]:
    """The blocks, if there are any and all samples are numbers."""
    empty, before = True, 0
    while True:
        with naming(name):
            block = next(blocks, None)
        if block is None:
            break
        numbers = np.isfinite(block)
        if not numbers.all():
            with naming(name):
                at = (before + numbers.argmin()) / SAMPLE_RATE
                report(f"corrupt audio: {NOT_NUMBERS}, at {at:.2f} s", NOT_NUMBERS)
            block = np.where(numbers, block, np.float32(0))
        empty, before = False, before + len(block)
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


def _check_file(path: Path) -> None:
    """Raise an `AudioFault` for a file that is not there or is empty."""
    fault = path_fault(str(path))
    if fault and not os.path.isfile(path):
        raise AudioFault(f"{path}: a path that {fault}", NO_AUDIO)
    # Pipes and devices have no end, or wait for one who writes.
    if not os.path.isfile(path):
        raise AudioFault(f"{path}: {NO_AUDIO}", NO_AUDIO)
    if os.path.getsize(path) == 0:
        raise AudioFault(f"{path}: empty audio file", EMPTY)


def _check_rate(rate: int) -> None:
    if rate < SLOWEST:
        raise AudioFault(f"sampled at {rate} Hz", LOW_RATE)


def at_16k(path: Path, channels: int | None = None) -> bool:
    """Whether the file is one WAV or FLAC at 16 kHz (and has so many channels), by its content.

    Raises:
        AudioFault: The file is missing, empty or cut short.
    """
    _check_file(path)
    with naming(path):
        info = _info(path, spans(path))
    if info is None or info.samplerate != SAMPLE_RATE:
        return False
    return channels in (None, info.channels)


def _info(path: Path, parts: list[Span]) -> soundfile._SoundFileInfo | None:
    """What libsndfile knows of a whole WAV or FLAC; None of what it cannot or should not read.

    Raises:
        AudioFault: It is cut short.
    """
    for part in parts:
        _check_span(part, Report())
    if len(parts) > 1 or parts[0].kind not in ("WAV", "FLAC") or not parts[0].length_known:
        return None
    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, TypeError):  # of a file called .raw
        return None
    return info if info.frames < UNKNOWN_FRAMES else None


def _check_span(part: Span, report: Report) -> None:
    # libsndfile and FFmpeg take what is there of a truncated WAV without a word (but refuse a
    # truncated FLAC).
    if part.missing:
        size = part.end - part.start
        line = f"truncated: {size} bytes, its header says {size + part.missing}"
        report(line, TRUNCATED)
    if part.damaged and report.damage is None:  # else the hole is told of
        report("damaged: a page of it is not what its checksum says")


def _read(path: Path, channel: int | None, report: Report) -> Iterator[np.ndarray]:
    """Parts of a file's sound, of any length; those of one file in another follow each other."""
    parts = spans(path)
    if report.damage is None:
        # Only libsndfile finds all that is wrong with a FLAC.
        info = _info(path, parts)
        if info and (info.samplerate == SAMPLE_RATE or info.format == "FLAC"):
            yield from _by_soundfile(path, channel)
            return
    whole = len(parts) == 1 and parts[0].length_known
    for part in parts:
        _check_span(part, report)
        report.holes = HOLE if part.damaged else BACK
        length = 0
        with open(path, "rb") as file:
            for block in _decode(path if whole else Part(file, part), channel, report):
                length += len(block)
                yield block
        report.before += length / SAMPLE_RATE


def _open(source: Path | Readable) -> av.container.InputContainer:
    """What FFmpeg makes of a file, or of a command's output, and of nothing else."""
    # A name with a colon would be taken for an address.
    file = f"file:{source}" if isinstance(source, Path) else source
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    if isinstance(source, Part) and not source.span.length_known:
        options["ignore_length"] = "1"
    try:
        # Titles in other encodings than UTF-8 are no fault of the sound.
        return av.open(file, options=options, metadata_errors="replace")
    except av.ArgumentError as e:
        raise AudioFault("corrupt, or not one of the containers that are read") from e


def _decode(source: Path | Readable, channel: int | None, report: Report) -> Iterator[np.ndarray]:
    """Decode anything FFmpeg knows, or else libsndfile; resample to 16 kHz mono."""
    try:
        container = _open(source)
    except (AudioFault, av.FFmpegError):
        with suppress(soundfile.LibsndfileError), _file(source) as file:
            if hasattr(file, "seek") and soundfile.info(file).format not in WEAK:
                yield from _by_soundfile(file, channel)
                return
        raise
    with container:
        if not container.streams.audio:
            raise AudioFault("no audio in this file")
        # Others are of a codec that this FFmpeg does not have.
        stream = next((x for x in container.streams.audio if x.codec_context), None)
        if stream is None:
            raise AudioFault("no decoder for its audio")
        _check_rate(stream.rate)
        if stream.channels <= RESAMPLED:
            yield from _resampled(on_time(stream, report), channel)
            return
    yield from _by_soundfile(source, channel)


def _file(source: Path | Readable) -> AbstractContextManager[Readable]:
    """The open file: for libsndfile, which would go by a path's suffix."""
    return open(source, "rb") if isinstance(source, Path) else nullcontext(source)


def _resampled(
    frames: Iterator[tuple[av.AudioFrame, float]], channel: int | None
) -> Iterator[np.ndarray]:
    """(samples,) of frames and of the silence between them, at 16 kHz."""
    # The channels stay apart: FFmpeg's own mix of two is louder than their mean. They are packed:
    # of eight planes and more PyAV reads beyond the last.
    resampler = before = None
    at, given = 0.0, 0  # seconds, samples
    for frame, hole in frames:
        kind = frame.format.name, frame.layout.name, frame.sample_rate
        if resampler and (hole or kind != before):  # broadcasts change from stereo to mono
            for part in resampler.resample(None):
                given += part.samples
                yield _mono(_packed(part), channel)
        if hole:
            silence = max(0, round((at + hole) * SAMPLE_RATE) - given)
            given += silence
            for first in range(0, silence, BLOCK):
                yield np.zeros(min(BLOCK, silence - first), np.float32)
        if hole or kind != before:
            _check_rate(frame.sample_rate)
            resampler, before = av.AudioResampler(format="flt", rate=SAMPLE_RATE), kind
        at += hole + frame.samples / frame.sample_rate
        for part in resampler.resample(frame):
            given += part.samples
            yield _mono(_packed(part), channel)
    if resampler:
        yield from (_mono(_packed(part), channel) for part in resampler.resample(None))


def _packed(frame: av.AudioFrame) -> np.ndarray:
    """(samples, channels) of a frame of packed float32."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels)


def _by_soundfile(source: Path | Readable, channel: int | None) -> Iterator[np.ndarray]:
    """Parts of audio at 16 kHz, all of it or an error, decoded by libsndfile."""
    if not isinstance(source, Path):
        if not hasattr(source, "seek"):
            raise AudioFault(f"more than {RESAMPLED} channels in a stream")
        source.seek(0)
    with soundfile.SoundFile(os.fsencode(source) if isinstance(source, Path) else source) as file:
        _check_rate(file.samplerate)
        parts = _samples(file)
        mono = (_mono(part, channel) for part in parts)
        if file.samplerate == SAMPLE_RATE:
            yield from mono
        elif file.channels <= RESAMPLED:
            frames = (_as_frame(part, file.samplerate) for part in parts)
            yield from _resampled(frames, channel)
        else:  # more than FFmpeg resamples: mixed first
            frames = (_as_frame(part[:, None], file.samplerate) for part in mono)
            yield from _resampled(frames, None)


def _samples(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """(samples, channels) float32 of a file, so many at a time that their memory is bounded."""
    size, at = WIDE * BLOCK // max(WIDE, file.channels), 0
    try:
        while len(samples := file.read(size, dtype="float32", always_2d=True)):
            yield samples
            at += len(samples)
    except soundfile.LibsndfileError as e:
        first, last = (x / file.samplerate for x in (at, at + size))
        line = f"damaged between {first:.2f} and {last:.2f} s: {e.error_string}"
        raise AudioFault(line, DAMAGED) from e


def _as_frame(samples: np.ndarray, rate: int) -> tuple[av.AudioFrame, float]:
    """(samples, channels) as `_resampled` takes them."""
    layout = f"{samples.shape[1]} channels"
    packed = np.ascontiguousarray(samples).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate
    return frame, 0.0


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
        with naming(wav):
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
    _check_file(Path(source))
    with naming(source):
        return sha256(source)[:16]


def seconds(path: Path | str) -> float:
    """Length by the file's header, without reading the audio, unless it tells none.

    Raises:
        AudioFault: The file is missing, empty or cut short, or its header is broken; of one that
            tells no length, as `read_audio`.
    """
    path = Path(path)
    _check_file(path)
    with naming(path):
        parts = spans(path, search=False)
        info = _info(path, parts)
        if info:
            return info.duration
        told = len(parts) == 1 and parts[0].length_known and parts[0].kind != "FLAC"
        length = _by_container(path) if told else None
    if length is None:
        length = sum(map(len, read_audio(path))) / SAMPLE_RATE
    return length


def _by_container(path: Path) -> float | None:
    """Seconds until the end that a file's container tells; None if FFmpeg has none."""
    try:
        with _open(path) as container:
            if container.duration is None:
                return None
            # MP4's is without the time before the first frame.
            start = max(0, container.start_time or 0) if kind_of(container) == "mov" else 0
            return (container.duration + start) / av.time_base
    except (AudioFault, av.FFmpegError):
        with suppress(soundfile.LibsndfileError), _file(path) as file:
            info = soundfile.info(file)
            if info.format not in WEAK:
                return info.duration
        raise
