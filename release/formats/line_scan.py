"""Where rows begin in a stream of JSON lines: at each line that is not blank, whatever ends it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.ranges import DataFileError
from open360.release.order.json_rows import MAX_LINE_BYTES

_NEWLINE = 10
_IS_SPACE = np.zeros(256, dtype=bool)
_IS_SPACE[list(b" \t\n\r\x0b\x0c")] = True


class LineScan:
    """Takes the bytes of a file in blocks of any size.

    Attributes:
        at: bytes taken.
        first: where the first row begins, None before it.
        last: where the row that was found last begins.
        rows: rows found.
    """

    def __init__(
        self, name: str, *, at: int = 0, first: int | None = None, last: int = 0, rows: int = 0, line: int = 0
    ) -> None:
        self.name, self.at, self.first, self.last, self.rows = name, at, first, last, rows
        self.line = line  # where the line begins that is not over
        self._open = last != line or first is None  # whether that line may still turn out to be blank

    def add(self, block: bytes | memoryview) -> NDArray[np.uint32]:
        """Lengths of the rows that end with these bytes: of each row found now, from the one before it.

        Raises DataFileError when a line is longer than `MAX_LINE_BYTES`.
        """
        data = np.frombuffer(block, dtype=np.uint8)
        newlines = np.flatnonzero(data == _NEWLINE)
        starts = newlines + 1
        self._check_lengths(data.size, starts)
        found = [self._of_open_line(data, newlines)]
        rows = starts[starts < data.size]
        rows = rows[_have_text(data, rows, newlines)]
        found.append(self.at + rows.astype(np.int64))
        if starts.size:
            self.line = self.at + int(starts[-1])
            self._open = not (rows.size and self.at + int(rows[-1]) == self.line)
        self.at += data.size
        return self._lengths(np.concatenate(found))

    def end(self) -> NDArray[np.uint32]:
        """The length of the last row, which the end of the file ends; none when there is no row."""
        return np.array([self.at - self.last] if self.rows else [], dtype=np.uint32)

    def _of_open_line(self, data: NDArray[np.uint8], newlines: NDArray[np.int64]) -> NDArray[np.int64]:
        """The beginning of the line that had begun before, when it turns out now that it is not blank."""
        if not self._open:
            return np.empty(0, dtype=np.int64)
        end = int(newlines[0]) if newlines.size else data.size
        if _IS_SPACE[data[:end]].all():
            return np.empty(0, dtype=np.int64)
        self._open = False
        return np.array([self.line], dtype=np.int64)

    def _lengths(self, starts: NDArray[np.int64]) -> NDArray[np.uint32]:
        if not starts.size:
            return np.empty(0, dtype=np.uint32)
        if self.first is None:
            self.first = self.last = int(starts[0])
            self.rows = 1
            starts = starts[1:]
        lengths = np.diff(starts, prepend=self.last)
        if lengths.size:
            if int(lengths.max()) >= 1 << 32:
                raise self._too_long()
            self.last = int(starts[-1])
            self.rows += int(starts.size)
        return lengths.astype(np.uint32)

    def _check_lengths(self, size: int, starts: NDArray[np.int64]) -> None:
        borders = np.concatenate([[self.line - self.at], starts, [size]])
        if int(np.diff(borders).max()) > MAX_LINE_BYTES + 1:
            raise self._too_long()

    def _too_long(self) -> DataFileError:
        where = f"{self.name}, from byte {self.line} on"
        return DataFileError(where, f"lines of at most {MAX_LINE_BYTES} bytes", "a longer one", "are these JSON lines?")


def _have_text(data: NDArray[np.uint8], starts: NDArray[np.int64], newlines: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which lines of a block are known to be more than white space; a last one may go on after the block."""
    solid: NDArray[np.bool_] = ~_IS_SPACE[data[starts]]
    if not solid.all():
        texts = np.concatenate([[0], np.cumsum(~_IS_SPACE[data], dtype=np.int64)])
        ends = np.append(newlines, data.size)[np.searchsorted(newlines, starts)]
        solid = texts[ends] > texts[starts]
    return solid
