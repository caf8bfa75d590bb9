"""Bytes that are no file of their own, as a file that can be read and searched."""

import io
from abc import abstractmethod
from typing import BinaryIO

from espnet_dq.data.spans import Span


class Virtual(io.RawIOBase):
    """What a subclass can `take`, as a file.

    Attributes:
        at: where it is read next.
        size: how many bytes there are.
    """

    at = 0
    size: int

    @abstractmethod
    def take(self, start: int, count: int) -> bytes:
        """So many bytes from `start`, or fewer at the end."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        self.at = origin + offset
        return self.at

    def readinto(self, buffer: memoryview) -> int:
        content = self.take(self.at, len(buffer))
        buffer[: len(content)] = content
        self.at += len(content)
        return len(content)


class Part(Virtual):
    """A span of an open file."""

    def __init__(self, file: BinaryIO, span: Span) -> None:
        self.file, self.span = file, span
        self.size = span.end - span.start

    def take(self, start: int, count: int) -> bytes:
        self.file.seek(self.span.start + start)
        return self.file.read(min(max(0, self.size - start), count))
