"""The directory of an archive of `torch.save`, read in the one way in which torch reads it.

A zip file can have several directories, of which every reader takes another. Here the record of
the directory's end is the file's end, the directory stands right before it and is as long as it
says, nothing in it is compressed, and each name stands in it once.
"""

import struct
from typing import BinaryIO

from espnet_dq.whisper.weights import shown

MAGIC = b"PK\x03\x04"
_PICKLE = 4 << 20  # bytes; a large Whisper's has 0.2 million, and what is built of it is larger
_DIRECTORY = 16 << 20  # bytes


def read_pickle(f: BinaryIO, size: int) -> bytes:
    """The pickle of an archive whose members are those that torch will find in it.

    Raises `ValueError` that says what is wrong, and `struct.error` where the archive ends early.
    """
    members, end = _directory(f, size)
    folder = next(iter(members), "").partition("/")[0]
    lower = {name.lower() for name in members}  # torch finds them in capitals, too
    if len(lower) < len(members) or any(not name.startswith(f"{folder}/") for name in members):
        raise ValueError("not a torch checkpoint (its members are not in one folder)")
    if sum(length for _, length in members.values()) > size:
        raise ValueError("its members are larger than the file")
    name = f"{folder}/data.pkl"
    if name not in members:
        raise ValueError("not a torch checkpoint (no data.pkl)")
    if f"{folder}/constants.pkl" in members:
        raise ValueError("not a torch checkpoint but a program (TorchScript)")
    content = b""
    for member, (offset, length) in members.items():
        f.seek(offset)
        head = struct.unpack("<4s5H3L2H", f.read(30))
        encoded = f.read(head[9])
        start = f.tell() + head[10]
        if head[0] != MAGIC or head[3] or encoded != member.encode("utf-8", "surrogateescape"):
            raise ValueError(f"damaged or truncated (member {shown(member)})")
        if start + length > end:
            raise ValueError("its members are larger than the file")
        if member == name:
            if length > _PICKLE:
                raise ValueError(f"not a torch checkpoint (a data.pkl of {length} bytes)")
            f.seek(start)
            content = f.read(length)
    return content


def _directory(f: BinaryIO, size: int) -> tuple[dict[str, tuple[int, int]], int]:
    """Members of an archive, name -> (offset of its header, bytes), and where the directory starts.

    Raises as `read_pickle`.
    """
    start, length, count = _end(f, size)
    if length > _DIRECTORY:
        raise ValueError("damaged or truncated (its directory)")
    f.seek(start)
    content, at = f.read(length), 0
    members: dict[str, tuple[int, int]] = {}
    for _ in range(count):
        entry = struct.unpack_from("<4s6H3L5H2L", content, at)
        flags, method, packed, unpacked = entry[3], entry[4], entry[8], entry[9]
        name_length, extra_length, comment_length, disk, offset = (*entry[10:14], entry[16])
        at += 46
        encoded = content[at : at + name_length]
        extra = content[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + comment_length
        if entry[0] != b"PK\x01\x02" or at > length or disk or flags & 0x2061:
            raise ValueError("damaged or truncated (its directory)")
        unpacked, packed, offset = _wide(extra, unpacked, packed, offset)
        if method or packed != unpacked:
            raise ValueError("holds compressed members, as torch writes none")
        name = encoded.decode("utf-8", "surrogateescape")
        if name in members:
            raise ValueError(f"holds the member {shown(name)} twice")
        members[name] = offset, unpacked
    if at != length:
        raise ValueError("damaged or truncated (its directory)")
    return members, start


def _end(f: BinaryIO, size: int) -> tuple[int, int, int]:
    """Offset and bytes of an archive's directory, and how many members are in it."""
    f.seek(max(0, size - 98))
    tail = f.read()
    mark, disk, first, here, count, length, start, comment = struct.unpack("<4s4H2LH", tail[-22:])
    if mark != b"PK\x05\x06" or disk or first or here != count or comment:
        raise ValueError("damaged or truncated (no end of an archive)")
    end = size - 22
    if tail[-42:-38] == b"PK\x06\x07":  # numbers of 64 bits, in a record before it
        end -= 20 + 56
        wide = struct.unpack("<4sQ2H2L4Q", tail[-98:-42])
        locator = struct.unpack("<4sLQL", tail[-42:-22])
        narrow = (here, count, length, start)
        fits = all(
            said in (full, most)
            for said, full, most in zip(
                narrow, wide[6:], (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True
            )
        )
        if wide[:2] != (b"PK\x06\x06", 44) or locator[1:] != (0, end, 1) or not fits:
            raise ValueError("damaged or truncated (no end of an archive)")
        if wide[4:6] != (0, 0) or wide[6] != wide[7]:
            raise ValueError("damaged or truncated (no end of an archive)")
        count, length, start = wide[7:]
    if start + length != end:
        raise ValueError("damaged or truncated (its directory is not at its end)")
    return start, length, count


def _wide(extra: bytes, *values: int) -> list[int]:
    """Sizes and an offset, those that do not fit 32 bits taken from the directory's extra field."""
    found, at = list(values), 4
    for i, value in enumerate(values):
        if value == 0xFFFFFFFF:
            if extra[:2] != b"\x01\x00":
                raise ValueError("damaged or truncated (its directory)")
            (found[i],) = struct.unpack_from("<Q", extra, at)
            at += 8
    if at > 4 and struct.unpack_from("<H", extra, 2)[0] < at - 4:
        raise ValueError("damaged or truncated (its directory)")
    return found
