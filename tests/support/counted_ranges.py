"""Files in memory, read by range, with a record of every read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from open360.release.formats.ranges import DataFileError, FileIdentity, MissingFileError, check_bounds
from open360.release.order.spans import Span


class CountedRanges:
    """`reads` holds every read in the order of their beginnings; `before` is called at the beginning of each."""

    def __init__(self, files: Mapping[str, bytes], before: Callable[[Span], None] = lambda _: None) -> None:
        self.files = dict(files)
        self.reads: list[Span] = []
        self.at_once = self.most_at_once = self.given_up = 0
        self._before, self._lock = before, threading.Lock()

    @property
    def bytes_read(self) -> int:
        """Bytes of all reads."""
        return sum(span.end - span.begin for span in self.reads)

    def identity(self, path: str) -> FileIdentity:
        """The size."""
        if path not in self.files:
            raise MissingFileError("memory", path)
        return FileIdentity(bytes=len(self.files[path]))

    def read(self, path: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)`."""
        span = Span(path, begin, end)
        with self._lock:
            self.reads.append(span)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self._before(span)
            check_bounds(path, begin, end, len(self.files[path]))
            return self.files[path][begin:end]
        finally:
            with self._lock:
                self.at_once -= 1

    def give_up(self) -> None:
        """Count it."""
        self.given_up += 1


__all__ = ["CountedRanges", "DataFileError"]
