"""When what FFmpeg decodes is to be heard: times, holes and damage of a stream.

A file's times are believed: where it holds no sound, before the first frame or between two, there
is silence.
"""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

import av

from espnet_dq.data.faults import AudioFault, Report

LONGEST = 24 * 3600  # seconds: no more is held in memory (5.5 GB), no later time is believed
# Containers that give their frames times, of which the second list's may begin anywhere. In others
# FFmpeg only counts, and counts wrong when the rate changes.
FROM_ZERO = ("mov", "matroska", "avi", "nut", "mxf")
FROM_ANY = ("mpegts", "mpeg", "ogg", "flv", "asf", "rm")
RAW = ("aac", "ac3", "dts", "eac3", "mp3")  # frames and nothing else
SURE = ("flac", "matroska", "mov")  # where what is behind damage has times of its own
HOLE = 0.1  # seconds: less is the rounding of times; FFmpeg's aresample lets that be, too
TOLD = 1.0  # seconds of a hole, or at the end, that are told of where nothing else says of damage
BACK = 1.0  # seconds by which times go back where another recording begins


def kind_of(container: av.container.InputContainer) -> str:
    """FFmpeg's first name of a container."""
    return container.format.name.split(",")[0]


class _Frame(NamedTuple):
    """A frame, when it is to be heard, and what was lost before it."""

    frame: av.AudioFrame | None  # None: the end
    time: float | None  # seconds from the beginning
    wrong: str  # why something before it could not be decoded


def _packets(stream: av.AudioStream) -> Iterator[av.Packet | av.FFmpegError]:
    """The packets of a stream, and the errors between them."""
    stuck = False
    while not stuck:
        try:
            stuck = True
            for packet in stream.container.demux(stream):
                yield packet
                stuck = False
            return
        except av.FFmpegError as e:
            yield e


def _frames(stream: av.AudioStream) -> Iterator[_Frame]:
    """The frames of a stream, and what could not be decoded."""
    if stream.codec_context.name == "flac":
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    kind = kind_of(stream.container)
    zero = 0.0
    if kind in FROM_ANY and stream.container.start_time is not None:
        zero = stream.container.start_time / av.time_base
    timed = kind in (*FROM_ZERO, *FROM_ANY)
    first = start = None  # times of the first good packet, and of the beginning
    counted, wrong = 0.0, ""  # seconds so far
    size = length = 0.0  # bytes and seconds of what was decoded
    for packet in _packets(stream):
        try:
            if isinstance(packet, av.FFmpegError):
                raise packet
            frames = packet.decode()
        except av.FFmpegError as e:
            wrong = wrong or e.strerror
            if kind in RAW and size and isinstance(packet, av.Packet):
                counted += packet.size * length / size  # a packet may hold many broken frames
            continue
        if first is None and packet.pts is not None and not packet.is_discard:
            first = float(packet.pts * packet.time_base) if timed else counted
        if kind == "flac" and frames:
            time = _flac_sample(packet) / frames[0].sample_rate
            if time - counted > 0.5 / frames[0].sample_rate:
                counted, wrong = time, wrong or "frames are missing"
        size += packet.size
        for frame in frames:
            time = frame.time if timed else counted
            if start is None and time is not None:
                # What is before the first frame is the encoder's delay, which is no time.
                late = first is not None and first - zero > HOLE
                start = zero if late else time
            yield _Frame(frame, None if time is None else time - start, wrong)
            wrong = ""
            counted += frame.samples / frame.sample_rate
            length += frame.samples / frame.sample_rate
    if wrong:
        yield _Frame(None, None, wrong)


def _flac_sample(packet: av.Packet) -> int:
    """The first sample of a frame of FLAC (RFC 9639, section 9.1); 0 if it has no header."""
    head = bytes(memoryview(packet)[:11])
    if len(head) < 11 or head[0] != 255 or head[1] & 254 != 248:
        return 0
    ones = 8 - (head[4] ^ 255).bit_length()  # as many bytes, or one
    number = head[4] & (127 >> ones)
    for byte in head[5 : 4 + ones]:
        number = number << 6 | byte & 63
    if head[1] & 1 == 0:  # it counts frames, which are of one size
        number *= int.from_bytes(packet.stream.codec_context.extradata[2:4])
    return number


def on_time(stream: av.AudioStream, report: Report) -> Iterator[tuple[av.AudioFrame, float]]:
    """Frames, and for each the seconds of silence before it.

    Where the file's clock jumps forward there is a hole. Where it goes back, another recording
    begins, unless it is the time of a single frame that is wrong.
    """
    at = shift = 0.0
    sure = kind_of(stream.container) in SURE
    found = _frames(stream)
    one = next(found, None)
    while one is not None:
        frame, time, wrong = one
        one = next(found, None)
        later = one.time if one else None
        hole = 0.0
        if frame and time is not None:
            hole = time + shift - at
            if hole < -BACK and (later is None or later + shift < at):
                shift -= hole
            believed = later is None or later >= time
            if hole < (0 if wrong else HOLE) or not believed or at + hole > LONGEST:
                hole = 0.0
        missing = f"{hole:.2f} s without sound"
        if wrong and frame is None and at == 0:
            raise AudioFault(f"corrupt audio: {wrong}")
        where = f"damaged at {report.before + at:.2f} s"
        behind = report.before + at + hole if sure and hole > 0 else inf
        if wrong:
            report(f"{where}: {wrong}, {missing}", report.before + at, behind)
        elif hole >= report.holes and at and report.damage:
            report(f"{where}: {missing}", report.before + at, behind)
        if frame:
            yield frame, hole
            at += hole + frame.samples / frame.sample_rate
