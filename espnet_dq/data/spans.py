"""Where in a file its sound lies, as far as WAV, AIFF, MP4, FLAC, Ogg and MPEG tell it.

Decoders take such a file for one recording, of the length that its header tells. But recorders that
were killed and programs that write into a pipe leave sizes that nobody knew, a copy that broke off
has fewer bytes than its header says, and `cat` makes several recordings one file.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

WAV = {b"RIFF": "little", b"RF64": "little", b"BW64": "little", b"RIFX": "big"}
# Sizes that stand for "not known": -1, and numbers near the ends of 31 and 32 bits, such as sox's
# 0x7ffff000, arecord's 0x80000000 and GStreamer's 0x7fff0000.
UNKNOWN, NEAR = (1 << 32) - 1, 1 << 16
FLAC = re.compile(rb"fLaC[\x00\x80]\0\0\x22")  # the mark, and the head of the block behind it
ID3 = re.compile(rb"ID3[\x02-\x04]\0[\0-\xf0][\0-\x7f]{4}", re.DOTALL)
OGG = re.compile(rb"OggS\0")
MARK, PIECE = 10, 1 << 18  # bytes
BACKWARDS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes of one recording."""

    kind: str | None  # a key of `WALK` or `SEARCH`, "WAV"; None: not known here
    start: int
    end: int
    length_known: bool = True  # whether the header tells a length
    missing: int = 0  # bytes that the header promises and the file has not
    damaged: bool = False  # whether a checksum of its pages is wrong, or bytes are no page
    seconds: float = 0.0  # that the first frame of an mp3 tells; 0: nothing tells them there


def spans(path: Path, search: bool = True) -> list[Span]:
    """The recordings in a file, one after the other; of unknown formats the whole file.

    Args:
        path: A file that is not empty.
        search: Read all of a FLAC, Ogg or MPEG file to find more than one.

    Raises:
        OSError: It cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        start = _behind_id3(file)
        kind = _kind(file, start)
        if kind == "WAV":
            return list(_wavs(file, start, size)) or [Span(None, 0, size)]
        if kind in WALK:
            return list(WALK[kind](file, size))
        if search and kind in SEARCH:
            return list(SEARCH[kind](file, size))
    return [Span(kind, 0, size)]


def _find(file: BinaryIO, mark: re.Pattern[bytes], start: int = 0) -> Iterator[int]:
    """Where marks of `MARK` bytes at most stand, from `start`; a piece of the file is in memory."""
    at, held = start, b""
    while more := _read(file, at, PIECE):
        held += more
        at += len(more)
        for found in mark.finditer(held):
            yield at - len(held) + found.start()
        held = held[1 - MARK :]


def _read(file: BinaryIO, at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _behind_id3(file: BinaryIO) -> int:
    """Where a file begins behind a tag that music players put before it."""
    tag = ID3.match(_read(file, 0, 10))
    return _size(tag[0]) if tag else 0


def _size(tag: bytes) -> int:
    """Of an ID3 tag, by its first 10 bytes; seven bits of each of the last four count."""
    footer = 10 if tag[5] & 16 else 0
    return 10 + footer + sum(byte << 7 * (3 - n) for n, byte in enumerate(tag[6:]))


def _kind(file: BinaryIO, start: int) -> str | None:
    head = _read(file, start, 12)
    if head[:4] in WAV and head[8:] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:8] == b"ftyp":
        return "MP4"
    if _is_mpeg(head[:2]):
        return "MPEG"
    return {b"fLaC": "FLAC", b"OggS": "Ogg"}.get(head[:4])


def _is_mpeg(head: bytes) -> bool:
    """Whether a frame of MPEG audio, mp3 or AAC, begins so."""
    return len(head) > 1 and head[0] == 255 and head[1] >= 224


def _mpegs(file: BinaryIO, size: int) -> Iterator[Span]:
    """Each but the first begins with a tag; without one FFmpeg reads on by itself."""
    starts = {0}
    for at in _find(file, ID3, start=10):
        if _is_mpeg(_read(file, at + _size(_read(file, at, 10)), 2)):
            starts.add(at)
    for start, end in pairwise([*sorted(starts), size]):
        yield Span("MPEG", start, end, seconds=_mp3_seconds(file, start))


# MPEG audio of layer 3, by the two bits of the version (2.5, none, 2, 1): rates in Hz.
RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))


def _mp3_seconds(file: BinaryIO, start: int) -> float:
    """What encoders say of the length in a first frame without sound (Xing's and LAME's header)."""
    tag = ID3.match(_read(file, start, 10))
    frame = _read(file, start + (_size(tag[0]) if tag else 0), 48)
    if len(frame) < 48 or not _is_mpeg(frame) or frame[1] & 6 != 2:
        return 0.0
    version, rate = frame[1] >> 3 & 3, frame[2] >> 2 & 3
    if version == 1 or rate == 3:
        return 0.0
    mono = frame[3] >> 6 == 3
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    mark, flags, count = (frame[4 + side + n : 8 + side + n] for n in (0, 4, 8))
    if mark not in (b"Xing", b"Info") or not flags[3] & 1:
        return 0.0
    return int.from_bytes(count) * (1152 if version == 3 else 576) / RATES[version][rate]


def _flacs(file: BinaryIO, size: int) -> Iterator[Span]:
    starts = sorted({*_find(file, FLAC)})
    for start, end in pairwise([0, *starts[1:], size]):
        yield Span("FLAC", start, end)


def _oggs(file: BinaryIO, size: int) -> Iterator[Span]:
    """Each begins with the first pages of all its streams (RFC 3533)."""
    start, end, begins, damaged, wrong = 0, None, True, False, 0
    for at in _find(file, OGG):
        if end is not None and at < end:
            continue
        head = _read(file, at, 27 + 255)
        counts = head[27 : 27 + head[26]] if len(head) > 26 else b""
        page = _read(file, at, 27 + len(counts) + sum(counts))
        if len(page) < 27 or _checksum(page[:22] + bytes(4) + page[26:]) != page[22:26]:
            wrong = at
            continue
        if page[5] & 2 and not begins:
            yield Span("Ogg", start, at, damaged=damaged)
            start, damaged = at, False
        elif end is not None and at > end:
            damaged = True
        begins, end = bool(page[5] & 2), at + len(page)
    cut_off = end is not None and wrong >= end
    yield Span("Ogg", start, size, damaged=damaged or cut_off)


def _checksum(page: bytes) -> bytes:
    """Ogg's: that of zlib with the bits of each byte, and of the result, in the other order."""
    found = zlib.crc32(page.translate(BACKWARDS), (1 << 32) - 1) ^ ((1 << 32) - 1)
    return found.to_bytes(4, "big").translate(BACKWARDS)


def _aiffs(file: BinaryIO, size: int) -> Iterator[Span]:
    start = 0
    while _kind(file, start) == "AIFF":
        length = int.from_bytes(_read(file, start + 4, 4))
        end = start + 8 + length + length % 2
        behind = end if _kind(file, end) == "AIFF" else size
        yield Span("AIFF", start, behind)
        start = behind


def _mp4s(file: BinaryIO, size: int) -> Iterator[Span]:
    """Each begins with a box of its type (ISO/IEC 14496-12)."""
    start = at = 0
    while at + 8 <= size:
        head = _read(file, at, 16)
        if head[4:8] == b"ftyp" and at > start:
            yield Span("MP4", start, at)
            start = at
        length = int.from_bytes(head[8:] if head[:4] == b"\0\0\0\1" else head[:4])
        if length < 8:  # 0: until the end
            break
        at += length
    yield Span("MP4", start, size)


WALK = {"AIFF": _aiffs, "MP4": _mp4s}
SEARCH = {"FLAC": _flacs, "Ogg": _oggs, "MPEG": _mpegs}


def _wavs(file: BinaryIO, start: int, size: int) -> Iterator[Span]:
    while (found := _wav(file, start, size)) is not None:
        yield found
        start = found.end
        if start >= size:
            break


def _wav(file: BinaryIO, start: int, size: int) -> Span | None:
    """The WAV that begins there, with all that stands behind its sound; None if there is none."""
    if _kind(file, start) != "WAV":
        return None
    order = WAV[_read(file, start, 4)]
    at, block, large = start + 12, 1, 0
    while at + 8 <= size:
        head = _read(file, at, 24)
        length = int.from_bytes(head[4:8], order)
        if head[:4] == b"data":
            break
        if head[:4] == b"fmt ":
            block = int.from_bytes(head[20:22], order) or 1
        elif head[:4] == b"ds64":
            large = int.from_bytes(head[16:24], order)
        at += 8 + length + length % 2
    else:
        return None
    sound, length = at + 8, large if large and length == UNKNOWN else length
    end = sound + length
    if length and end <= size + 1:  # an odd chunk's padding byte is often left out
        behind = _tail(file, end + length % 2, size, order) or _tail(file, end, size, order)
        return Span("WAV", start, behind or size)
    if length == 0 and (behind := _tail(file, sound, size, order)):
        return Span("WAV", start, behind)
    if length == 0 or length >= 1 << 63 or any(abs(length - x) <= NEAR for x in (1 << 31, 1 << 32)):
        return Span("WAV", start, size - (size - sound) % block, length_known=False)
    return Span("WAV", start, size, missing=end - size)


def _tail(file: BinaryIO, at: int, size: int, order: str) -> int | None:
    """Where chunks that begin there end: at another WAV or with the file; None: they are none."""
    while at < size:
        head = _read(file, at, 8)
        if _kind(file, at) == "WAV":
            return at
        if not re.fullmatch(rb"[\x20-\x7e]{4}", head[:4]):
            return None
        length = int.from_bytes(head[4:], order)
        at += 8 + length + length % 2
    return size if at <= size + 1 else None
