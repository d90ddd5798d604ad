"""Bytes that come piece by piece into memory that was made once.

Many threads that take and give back megabytes tear the heap of C into pieces (70 MB were lost so); large buffers are
pages of their own, which go back to the system at once.
"""

from __future__ import annotations

import mmap

PAGES_FROM = 256 << 10
_AT_ONCE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)


class Filling:
    """Room for `size` bytes; `filled` of them have come. Only asked for by us, so never larger than we want it."""

    def __init__(self, size: int) -> None:
        self.data = memoryview(mmap.mmap(-1, size, flags=_AT_ONCE) if size >= PAGES_FROM else bytearray(size))
        self.filled = 0

    @property
    def missing(self) -> int:
        """Bytes that have not come yet."""
        return len(self.data) - self.filled

    def add(self, block: bytes | memoryview) -> None:
        """Take the next bytes; what is too much is dropped."""
        size = min(len(block), self.missing)
        self.data[self.filled : self.filled + size] = block[:size]
        self.filled += size
