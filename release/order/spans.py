"""Where rows lie: byte ranges of rows over a list of files. Pure arithmetic.

Two layouts are in use. In a *stream* the files are one long array cut anywhere, so that a row may begin in one file
and end in the next (Pythia's shards of 30,000,000,000 bytes and rows of 4,098). In *shards* each file holds whole rows
from its beginning on, and what is left over at its end is dropped (OLMo).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from open360.schema.errors import Open360Error


class OrderError(Open360Error):
    """Rows cannot be found: they lie outside of the data, or a file is not what its name says."""

    def __init__(self, thing: str, problem: str) -> None:
        self.thing, self.problem = thing, problem
        super().__init__(f"{thing}: {problem}; see 'open360 validate'")


class StoredFile(NamedTuple):
    """A file of rows. `begin` is where its rows begin, after a header."""

    path: str
    bytes: int
    begin: int = 0


class Span(NamedTuple):
    """Bytes `[begin, end)` of a file."""

    path: str
    begin: int
    end: int


def rows_of_stream(files: Iterable[StoredFile], row_bytes: int) -> int:
    """Whole rows of a stream."""
    return sum(file.bytes - file.begin for file in files) // row_bytes


def spans(files: Sequence[StoredFile], row_bytes: int, first_row: int, end_row: int) -> list[Span]:
    """Where rows `[first_row, end_row)` of a stream lie, in order. Raises OrderError outside of the files."""
    total = rows_of_stream(files, row_bytes)
    if not 0 <= first_row <= end_row <= total:
        raise OrderError(f"rows {first_row} to {end_row}", f"expected rows below {total}")
    begin, end = first_row * row_bytes, end_row * row_bytes
    ends = list(accumulate(file.bytes - file.begin for file in files))
    found: list[Span] = []
    at = bisect_right(ends, begin)
    while begin < end:
        file, starts = files[at], ends[at] - (files[at].bytes - files[at].begin)
        stop = min(end, ends[at])
        if begin < stop:
            found.append(Span(file.path, file.begin + begin - starts, file.begin + stop - starts))
        begin, at = max(begin, stop), at + 1
    return found


class Shards:
    """Files that hold whole rows each; rows are numbered through, file after file, in the order given.

    The same file may stand in the list more than once: its rows then have several numbers.
    """

    def __init__(self, files: Sequence[StoredFile], row_bytes: int) -> None:
        self.files, self.row_bytes = files, row_bytes
        self._ends = list(accumulate((file.bytes - file.begin) // row_bytes for file in files))

    @property
    def rows(self) -> int:
        """Rows of all files together; tails are dropped file by file."""
        return self._ends[-1] if self._ends else 0

    def span(self, row: int) -> Span:
        """Where a row lies. Raises OrderError when there is no such row."""
        if not 0 <= row < self.rows:
            raise OrderError(f"row {row}", f"expected rows below {self.rows}")
        at = bisect_right(self._ends, row)
        file = self.files[at]
        inside = row - (self._ends[at - 1] if at else 0)
        begin = file.begin + inside * self.row_bytes
        return Span(file.path, begin, begin + self.row_bytes)


def merged(wanted: Iterable[Span], gap: int = 0) -> list[Span]:
    """Spans that hold all the wanted ones, by file and place; those at most `gap` bytes apart are one."""
    found: list[Span] = []
    for span in sorted(wanted):
        last = found[-1] if found else None
        if last is not None and last.path == span.path and span.begin <= last.end + gap:
            found[-1] = last._replace(end=max(last.end, span.end))
        else:
            found.append(span)
    return found
