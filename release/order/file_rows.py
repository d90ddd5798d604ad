"""Rows of several files, numbered through: from numbers to files, and back."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open360.release.order.spans import OrderError


class RowSpan(NamedTuple):
    """Rows `[first_row, end_row)` of a file."""

    file: str
    first_row: int
    end_row: int


def joined(found: Iterable[RowSpan]) -> list[RowSpan]:
    """The same rows in the same order, with rows that follow one another in a file as one span."""
    spans: list[RowSpan] = []
    for span in found:
        last = spans[-1] if spans else None
        if last is not None and last.file == span.file and last.end_row == span.first_row:
            spans[-1] = RowSpan(span.file, last.first_row, span.end_row)
        elif span.first_row < span.end_row:
            spans.append(span)
    return spans


class FileRows:
    """Files and the rows of each, in their order; the same file may stand there more than once.

    Raises OrderError for numbers that lie outside of the files.
    """

    def __init__(self, files: Sequence[tuple[str, int]]) -> None:
        self.files = list(files)
        ends = list(accumulate(rows for _, rows in self.files))
        self.rows = ends[-1] if ends else 0
        self._ends = np.array(ends, dtype=np.int64)
        self._starts = np.array([0, *ends[:-1]][: len(ends)], dtype=np.int64)
        self._entries: dict[str, list[int]] = {}
        for index, (file, _) in enumerate(self.files):
            self._entries.setdefault(file, []).append(index)

    def spans(self, numbers: range | NDArray[np.int64]) -> Iterator[RowSpan]:
        """Where numbered rows lie, in the order given."""
        return self._of_range(numbers) if isinstance(numbers, range) else self._of_array(numbers)

    def _of_range(self, numbers: range) -> Iterator[RowSpan]:
        begin, end = numbers.start, numbers.stop
        if begin >= end:
            return
        if begin < 0 or end > self.rows:
            raise self._outside(begin if begin < 0 else end - 1)
        at = bisect_right(self._ends, begin)
        while begin < end:
            start, stop = int(self._starts[at]), min(end, int(self._ends[at]))
            if begin < stop:
                yield RowSpan(self.files[at][0], begin - start, stop - start)
            begin, at = max(begin, stop), at + 1

    def _of_array(self, numbers: NDArray[np.int64]) -> Iterator[RowSpan]:
        if not numbers.size:
            return
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= self.rows:
            raise self._outside(low if low < 0 else high)
        at = np.searchsorted(self._ends, numbers, side="right")
        rows = numbers - self._starts[at]
        breaks = np.flatnonzero((np.diff(at) != 0) | (np.diff(rows) != 1)) + 1
        begins = np.concatenate([[0], breaks])
        lengths = np.diff(np.append(begins, numbers.size))
        for file, row, length in zip(at[begins].tolist(), rows[begins].tolist(), lengths.tolist(), strict=True):
            yield RowSpan(self.files[file][0], row, row + length)

    def _outside(self, number: int) -> OrderError:
        files = f"{len(self.files)} files" if len(self.files) != 1 else f"'{self.files[0][0]}'"
        return OrderError(f"row {number} of the order", f"{files} hold {self.rows} rows in all")

    def numbers(self, file: str, row: int) -> list[int]:
        """Every number of a stored row: as many as the file stands in the list. Raises OrderError."""
        entries = self._entries.get(file)
        if entries is None:
            raise OrderError(file, "it is no file of this order")
        found = [int(self._starts[at]) + row for at in entries if 0 <= row < self.files[at][1]]
        if not found:
            most = max(self.files[at][1] for at in entries)
            raise OrderError(f"row {row} of {file}", f"the order uses its rows below {most}")
        return found
