"""What every format gives: rows of files as blocks of ids, and what reading them takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.fetching import PIECE_BYTES, gathered, reads_for
from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.formats.token_ids import to_ids
from open360.release.order.file_rows import RowSpan
from open360.release.order.spans import Span, StoredFile, spans

BLOCK_BYTES = PIECE_BYTES  # of ids as stored, in one block of rows
Ids = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What reading some rows takes.

    Attributes:
        reads: byte ranges, merged; those of indices and footers that have to be read first are not among them.
        estimated: nothing says where the rows end, so that the last range of a file is a guess.
    """

    reads: tuple[Span, ...]
    estimated: bool = False


class RowBlock(NamedTuple):
    """Rows one after the other: ids of shape (rows, row_len), and the label of each row's source where it is stored."""

    ids: Ids
    sources: tuple[str | None, ...] | None = None


class RowReader(ABC):
    """Rows of the files of a corpus, `row_len` ids each.

    Rows of a file are counted from 0; the reader of a stream counts rows of all files together, whatever file a span
    names. Blocks come in the order asked for, each of at most `BLOCK_BYTES` stored bytes, or a row.
    Every method may raise DataFileError, OrderError and what `Ranges` raises.
    """

    def __init__(self, ranges: Ranges, row_len: int) -> None:
        self.ranges, self.row_len = ranges, row_len

    @abstractmethod
    def rows_of(self, file: str) -> int:
        """Rows of a file."""

    @abstractmethod
    def reading(self, wanted: Sequence[RowSpan]) -> Reading:
        """What `blocks` would read, without reading rows."""

    @abstractmethod
    def blocks(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        """The rows, in order."""

    def read(self, wanted: Iterable[RowSpan]) -> Ids:
        """All of the rows in one array, shape (rows, row_len)."""
        found = [block.ids for block in self.blocks(wanted)]
        return np.concatenate(found) if found else np.empty((0, self.row_len), dtype=np.uint32)


class FixedReader(RowReader):
    """Rows of a fixed size in bytes: where they lie is arithmetic. Subclasses say how.

    Args:
        overlap: ids that a row shares with the row before.
    """

    def __init__(self, ranges: Ranges, row_len: int, overlap: int = 0) -> None:
        super().__init__(ranges, row_len)
        if not 0 <= overlap < row_len:
            raise ValueError(f"expected an overlap below {row_len}, found {overlap}")
        self.overlap, self.stride = overlap, row_len - overlap

    @abstractmethod
    def dtype_of(self, file: str) -> np.dtype[np.integer]:
        """The type of stored ids."""

    @abstractmethod
    def spans_of(self, rows: RowSpan) -> list[Span]:
        """Bytes of rows, in order: in one file, or over the border between several."""

    def reading(self, wanted: Sequence[RowSpan]) -> Reading:
        """The ranges of the rows."""
        parts = (part for rows in wanted for part in in_blocks(rows, self.row_len * self.dtype_of(rows.file).itemsize))
        return Reading(reads=tuple(reads_for(list(chain.from_iterable(map(self.spans_of, parts))))))

    def blocks(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        """The rows, in order."""
        asked: deque[str] = deque()

        def parts() -> Iterator[list[Span]]:
            for rows in wanted:
                for part in in_blocks(rows, self.row_len * self.dtype_of(rows.file).itemsize):
                    asked.append(part.file)
                    yield self.spans_of(part)

        for data in gathered(self.ranges, parts(), self.check):
            file = asked.popleft()
            ids = to_ids(file or "the data", data, self.dtype_of(file))
            if self.overlap:
                yield RowBlock(np.lib.stride_tricks.sliding_window_view(ids, self.row_len)[:: self.stride].copy())
            else:
                yield RowBlock(ids.reshape(-1, self.row_len))

    def check(self, span: Span, data: memoryview) -> None:
        """Look at bytes before they are taken for ids. Raises DataFileError."""


def in_blocks(rows: RowSpan, row_bytes: int) -> Iterator[RowSpan]:
    """The same rows in spans of at most `BLOCK_BYTES`, or of one row."""
    step = max(BLOCK_BYTES // row_bytes, 1)
    for first in range(rows.first_row, rows.end_row, step):
        yield RowSpan(rows.file, first, min(first + step, rows.end_row))


def in_order(found: Iterable[Span]) -> list[Span]:
    """The same spans in the same order, with those that follow one another in a file as one."""
    spans: list[Span] = []
    for span in found:
        if spans and spans[-1].path == span.path and spans[-1].end == span.begin:
            spans[-1] = spans[-1]._replace(end=span.end)
        elif span.begin < span.end:
            spans.append(span)
    return spans


def check_rows(rows: RowSpan, there: int) -> None:
    """Raise DataFileError unless a file holds these rows."""
    if not 0 <= rows.first_row <= rows.end_row <= there:
        wanted = f"rows {rows.first_row} to {rows.end_row}"
        raise DataFileError(rows.file or "the data", wanted, f"{there} rows", "see 'open360 validate'")


class StreamReader(FixedReader):
    """Raw ids in files that are one long array, cut anywhere: a row may begin in one and end in the next (Pythia).

    Args:
        files: names in their order, and what they hold; every size has to be known.
        overlap: ids that a row shares with the row before.
    """

    def __init__(
        self,
        ranges: Ranges,
        files: Sequence[StoredFile],
        *,
        row_len: int,
        dtype: np.dtype[np.integer],
        overlap: int = 0,
    ) -> None:
        super().__init__(ranges, row_len, overlap)
        self.files, self._dtype = files, dtype
        self.bytes = sum(file.bytes - file.begin for file in files)

    def dtype_of(self, file: str) -> np.dtype[np.integer]:
        """The one type of all files."""
        del file
        return self._dtype

    def rows_of(self, file: str) -> int:
        """Rows of the whole stream."""
        del file
        return max(self.bytes // self._dtype.itemsize - self.overlap, 0) // self.stride

    def spans_of(self, rows: RowSpan) -> list[Span]:
        """Bytes of rows of the stream."""
        check_rows(rows, self.rows_of(rows.file))
        if rows.first_row == rows.end_row:
            return []
        first = rows.first_row * self.stride
        end = (rows.end_row - 1) * self.stride + self.row_len
        return self.bytes_of(first * self._dtype.itemsize, end * self._dtype.itemsize)

    def bytes_of(self, begin: int, end: int) -> list[Span]:
        """Where bytes `[begin, end)` of the stream lie."""
        return spans(self.files, 1, begin, end)
