"""Audio in, mono float32 at 16 kHz out.

FLAC, and WAV at 16 kHz, go through soundfile, all else (g722, ogg, mp3, other sample rates) through
PyAV (`espnet_dq.data.decoders`). The content decides, not the name, and what one of them cannot
open, the other is asked for.

Times are the file's: where it holds no sound, before the first frame or between two, there is
silence. Damage is an `AudioFault`, unless somebody wants to hear of it: the rest is then decoded.
"""

import os
import wave
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

import av
import numpy as np
import soundfile

from espnet_dq.data.clock import HOLE, LONGEST, TOLD, kind_of
from espnet_dq.data.decoders import (
    BLOCK,
    SAMPLE_RATE,
    WEAK,
    Readable,
    by_soundfile,
    decode,
    open_container,
    opened,
)
from espnet_dq.data.faults import (
    EMPTY,
    NO_AUDIO,
    NO_SCALE,
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

DAMAGED_PAGE = "bytes of it are no page with a right checksum"
UNKNOWN_SIZE = 0x7F000000  # bytes and more that programs write which cannot go back to the header
LOUDEST = 32.0  # 30 dB above full scale: no recording, but integers that are written as floats
UNKNOWN_FRAMES = 1 << 62  # libsndfile's count of samples where the header tells none: 2^63 - 1


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn what soundfile and PyAV raise within into an `AudioFault` that names the file."""
    try:
        yield
    except Exception as e:
        fault = _as_fault(e)
        raise AudioFault(f"{path}: {fault}", fault.cause) from e


def _as_fault(error: Exception) -> AudioFault:
    """What soundfile and PyAV raise, without the file's name; other faults of ours as they are."""
    match error:
        case AudioFault():
            return error
        case DQError():
            raise error
        case soundfile.LibsndfileError():
            return AudioFault(f"corrupt audio: {error.error_string}")
        case av.FFmpegError():
            return AudioFault(f"corrupt audio: {error.strerror}")
        case OSError():
            return AudioFault(f"cannot be read: {error.strerror or type(error).__name__}")
    # PyAV's, of layouts, rates, texts in headers and whatever else it does not know.
    why = " ".join(f"{type(error).__name__} {error}".split())
    return AudioFault(f"corrupt audio: {why}")


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
            no such channel, too low a rate, or samples that are integers, not in [-1, 1]. What is
            wrong in the middle of a file is only found there. That a rate in a header is not the
            true one cannot be told from the samples, and a lossy file that was cut off says so only
            if its format does.
    """
    path = Path(path)
    yield from _blocks(path, channel, Report(damage and (lambda line: damage(f"{path}: {line}"))))


def _blocks(path: Path, channel: int | None, report: Report) -> Iterator[np.ndarray]:
    _check_file(path)
    yield from _sound(path, _gathered(_read(path, channel, report)), report)


def read_stream(name: str, stream: Readable, channel: int | None) -> Iterator[np.ndarray]:
    """`read_audio` of an open file that is called `name`."""
    # Not by soundfile: headers of streams tell lengths that nobody knew when they were written.
    yield from _sound(name, _gathered(decode(stream, channel, Report())), Report())


def load_audio(path: Path | str, channel: int | None = None) -> np.ndarray:
    """All samples of an audio file, (samples,) float32, `LONGEST` at most; see `read_audio`."""
    return whole(path, read_audio(path, channel))


def load_around(path: Path | str, channel: int | None) -> tuple[np.ndarray, float, float]:
    """All samples of a damaged file, (samples,) float32, and from when to when it is damaged.

    What lies before the first second that is given, or behind the last one, which may be infinite,
    is the file's own sound at its own times. A decoder may give a few wrong samples next to damage
    that it finds, and what a checksum of Ogg's finds may lie anywhere in its recording.

    Raises:
        AudioFault: As `read_audio` where damage is told.
    """
    report = Report(lambda _: None)
    sound = whole(path, _blocks(Path(path), channel, report))
    if not report.told:  # of another decoder's fault
        return sound, 0.0, inf
    return sound, min(report.first, len(sound) / SAMPLE_RATE), report.last


def _sound(name: Path | str, blocks: Iterator[np.ndarray], report: Report) -> Iterator[np.ndarray]:
    """The blocks, if there are any and all samples are numbers."""
    empty, before = True, 0
    while True:
        with naming(name):
            block = next(blocks, None)
        if block is None:
            break
        peak = np.abs(block).max()
        if LOUDEST < peak < np.inf:
            at = (before + np.abs(block).argmax()) / SAMPLE_RATE
            raise AudioFault(f"{name}: {NO_SCALE}: {peak:g} at {at:.2f} s", NO_SCALE)
        numbers = np.isfinite(block)
        if not numbers.all():
            with naming(name):
                at = (before + numbers.argmin()) / SAMPLE_RATE
                line, end = f"corrupt audio: {NOT_NUMBERS}, at {at:.2f} s", before + len(block)
                report(line, at, end / SAMPLE_RATE, NOT_NUMBERS)
            block = np.where(numbers, block, np.float32(0))
        empty, before = False, before + len(block)
        yield block
    if empty:
        raise AudioFault(f"{name}: audio without a sample", EMPTY)


def limited(
    name: Path | str, blocks: Iterable[np.ndarray], most: float = inf
) -> Iterator[np.ndarray]:
    """The blocks; `AudioFault` when there are `most` seconds of them, or no end to them."""
    left = min(most, LONGEST) * SAMPLE_RATE
    for block in blocks:
        left -= len(block)
        if left < 0 and most < LONGEST:
            raise AudioFault(str(name), longer(most))
        if left < 0:
            raise AudioFault(f"{name}: longer than {LONGEST / 3600:g} hours")
        yield block


def longer(most: float) -> str:
    """The cause for which an utterance of more than so many seconds is left out."""
    return f"longer than {most:g} s"


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
    if os.path.isdir(path):
        raise AudioFault(f"{path}: a folder, not an audio file", NO_AUDIO)
    if os.path.exists(path) and not os.path.isfile(path):
        raise AudioFault(f"{path}: a pipe or device: write it to a file first", NO_AUDIO)
    if not os.path.isfile(path):
        raise AudioFault(f"{path}: {NO_AUDIO}", NO_AUDIO)
    if os.path.getsize(path) == 0:
        raise AudioFault(f"{path}: empty audio file", EMPTY)


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
        report(line, inf, inf, TRUNCATED)
    if part.damaged and report.damage is None:  # else where it is damaged is told
        report(f"damaged: {DAMAGED_PAGE}", 0, inf)


def _check_length(part: Span, seconds: float, report: Report) -> None:
    """Report a recording that is shorter than its header says, decoded as it is."""
    least = max(report.least, part.seconds - TOLD)
    # As of WAV, lengths near 2^31 bytes and above stand for "not known".
    size = (part.end - part.start) * least / seconds if seconds else 0
    if seconds and seconds < least < LONGEST and size < UNKNOWN_SIZE:
        line = f"truncated: it ends at {seconds:.2f} s, its header says more than {least:.2f}"
        report(line, report.before, inf, TRUNCATED)  # of frames any may be missing


def _read(path: Path, channel: int | None, report: Report) -> Iterator[np.ndarray]:
    """Parts of a file's sound, of any length; those of one file in another follow each other.

    Where damage is told, a recording that cannot be read, or not to its end, is damage, too, unless
    nothing can be read at all.
    """
    parts = spans(path)
    if report.damage is None:
        # Only libsndfile finds all that is wrong with a FLAC.
        info = _info(path, parts)
        if info and (info.samplerate == SAMPLE_RATE or info.format == "FLAC"):
            yield from by_soundfile(path, channel)
            return
    heard, faults = False, []
    for number, part in enumerate(parts, 1):
        _check_span(part, report)
        report.holes = HOLE if part.damaged else TOLD
        length, told, report.least = 0, report.told, 0.0
        try:
            with open(path, "rb") as file:
                alone = len(parts) == 1 and part.length_known
                for block in decode(path if alone else Part(file, part), channel, report):
                    length += len(block)
                    yield block
        except Exception as e:
            fault = _as_fault(e)
            if report.damage is None or (len(parts) == 1 and not length):
                raise
            of = f"recording {number} of {len(parts)}: " if len(parts) > 1 else ""
            at = report.before + length / SAMPLE_RATE
            report(f"damaged at {at:.2f} s: {of}{fault}; the rest of it is left out", at, inf)
            faults.append(fault)
        else:
            _check_length(part, length / SAMPLE_RATE, report)
        end = report.before + length / SAMPLE_RATE
        if part.damaged and report.told == told:  # in a spot that no hole shows
            line = f"damaged between {report.before:.2f} and {end:.2f} s: {DAMAGED_PAGE}"
            report(line, report.before, end)
        if part.damaged:  # not every page that is lost leaves a hole
            report.touch(report.before, end)
        if len(parts) > 1 and report.told > told:  # the next may begin too early
            report.touch(end, inf)
        heard, report.before = heard or length > 0, end
    if faults and not heard:
        raise faults[0]


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


def to_wav(source: Path, wav: Path, channel: int | None = None, most: float = inf) -> int:
    """Decode `source` into the 16 kHz WAV `wav`, unless that is there; its samples.

    Block by block, so in little memory. Whether `wav` is of the source as that is now its name has
    to say: see `content_mark`.

    Raises:
        AudioFault: As in `load_audio`; or it is longer than `most` seconds, which are all that is
            decoded of it.
    """
    if wav.exists():
        with naming(wav):
            return soundfile.info(os.fsencode(wav)).frames
    return write_wav(wav, limited(source, read_audio(source, channel), most))


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

    Of several recordings in one file it is that of all in WAV, AIFF and MP4; in FLAC, Ogg, mp3 and
    AAC it tells one of them only, since all of the file would have to be searched for the others.

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
        with open_container(path) as container:
            if not container.duration:  # RealMedia's may be 0
                return None
            # MP4's is without the time before the first frame.
            start = max(0, container.start_time or 0) if kind_of(container) == "mov" else 0
            return (container.duration + start) / av.time_base
    except (AudioFault, av.FFmpegError):
        with suppress(soundfile.LibsndfileError), opened(path) as file:
            info = soundfile.info(file)
            if info.format not in WEAK:
                return info.duration
        raise
