"""Bounds-checked reading of little-endian binary files."""

import struct
from pathlib import Path

import numpy as np

from espnet_dq.errors import InputError
from espnet_dq.reading import file_size


class Reader:
    """A cursor over a memory-mapped file; each read is checked against the file's length.

    Nothing is allocated from a size that the file itself could not hold.

    Raises:
        InputError: the file is missing or ends before what its headers announce.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not file_size(self.path):
            raise InputError(f"{self.path}: the file is empty")
        # Plain views of it: slices of a memmap take far longer to make.
        self.data = np.memmap(self.path, dtype=np.uint8, mode="r").view(np.ndarray)
        self.offset = 0

    @property
    def left(self) -> int:
        """Bytes that are not read yet."""
        return len(self.data) - self.offset

    def view(self, size: int, what: str) -> np.ndarray:
        """The next `size` bytes as a uint8 view; `what` they are is for the message."""
        if not 0 <= size <= self.left:
            raise InputError(
                f"{self.path}: truncated: {what} needs {size} bytes at {self.offset}, "
                f"{self.left} are left"
            )
        view = self.data[self.offset : self.offset + size]
        self.offset += size
        return view

    def unpack(self, layout: str, what: str) -> tuple:
        """The next fields, in `struct` notation without the byte order."""
        return struct.unpack("<" + layout, self.view(struct.calcsize("<" + layout), what).tobytes())

    def number(self, layout: str, what: str) -> int:
        """The next single field."""
        return self.unpack(layout, what)[0]

    def strings(self, count: int, what: str) -> list[bytes]:
        """The next `count` strings, each behind its length in four bytes."""
        data, size, at, found = memoryview(self.data), len(self.data), self.offset, []
        length = struct.Struct("<I").unpack_from
        for i in range(count):
            begin = at + 4
            end = begin + length(data, at)[0] if begin <= size else begin
            if end > size:
                self.offset = at
                self.view(self.number("I", f"length of {what} {i}"), f"{what} {i}")  # raises
            found.append(bytes(data[begin:end]))
            at = end
        self.offset = at
        return found

    def text(self, size: int, what: str) -> str:
        """The next `size` bytes as UTF-8."""
        try:
            return self.view(size, what).tobytes().decode("utf-8")
        except UnicodeDecodeError as e:
            raise InputError(f"{self.path}: {what} at {self.offset - size} is not UTF-8") from e
