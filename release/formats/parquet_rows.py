"""Rows in Parquet: a list of ids a row, in a column of any files of Parquet (ours, and re-packs as Pythia's).

A row costs the column of its row group: pyarrow, which decodes, cannot read single pages by an index. The footer of a
file is read once; only the columns that are asked for are fetched. Memory: the packed column of one row group twice,
while it is put together, and a block of rows; a group of more than 1 GiB unpacked is refused (`parquet_layout`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from open360.release.corpus.bounded_parquet import Footer
from open360.release.corpus.parquet_layout import MAGIC, TAIL_BYTES, ChunkFileError
from open360.release.formats.fetching import gathered, reads_for
from open360.release.formats.passes import in_one_pass, requests_by
from open360.release.formats.ranges import Ranges
from open360.release.formats.rows import BLOCK_BYTES, Ids, Reading, RowBlock, RowReader, check_rows
from open360.release.formats.token_ids import to_ids
from open360.release.order.file_rows import RowSpan
from open360.release.order.spans import Span

MAX_FOOTER_BYTES = 64 << 20
TAIL_GUESS_BYTES = 64 << 10  # read from the end of a file, which holds most footers
KEPT_FOOTERS = 8
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A row group: rows `[first, end)` of its file. Two are the same when they are of the same footer."""

    footer: Footer  # compared by identity
    number: int
    first: int
    end: int


class ParquetReader(RowReader):
    """Rows of Parquet files. Methods raise ChunkFileError, too.

    Args:
        ids: the column that holds the ids of a row.
        source: the column that holds the label of its source, if there is one.
    """

    def __init__(self, ranges: Ranges, *, row_len: int, ids: str, source: str | None = None) -> None:
        super().__init__(ranges, row_len)
        self.column, self.source = ids, source
        self._columns = [ids] if source is None else [ids, source]
        self._files: OrderedDict[str, tuple[Footer, list[int]]] = OrderedDict()

    def rows_of(self, file: str) -> int:
        """As the footer says."""
        return self._file(file)[0].layout.rows

    def reading(self, wanted: Sequence[RowSpan]) -> Reading:
        """The columns of the row groups; footers are read for it."""
        spans = {self._span(rows.file, group, self._columns): None for group, rows in self._by_group(wanted)}
        return Reading(reads=tuple(reads_for(list(spans))))

    def blocks(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        """The rows, in order."""
        jobs: deque[tuple[_Group, list[RowSpan]]] = deque()

        def spans() -> Iterator[list[Span]]:
            for group, requests in requests_by(self._by_group(wanted), 4 * self.row_len):
                jobs.append((group, requests))
                yield [self._span(requests[0].file, group, self._columns)]

        for data in gathered(self.ranges, spans()):
            yield from self._of_group(*jobs.popleft(), data)
            del data  # before the next is put together

    def _of_group(self, group: _Group, requests: list[RowSpan], data: bytes | memoryview) -> Iterator[RowBlock]:
        yield from in_one_pass(requests, lambda a, b: self._ids(group, data, a, b), self.row_len)

    def values(self, wanted: Iterable[RowSpan], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Other columns of rows (`uid`, `batch_idx` of a re-pack), a table for each row group."""
        for group, rows in self._by_group(wanted):
            data = next(gathered(self.ranges, [[self._span(rows.file, group, columns)]]))
            batches = group.footer.batches(group.number, columns, memoryview(data), max(group.end - group.first, 1))
            yield pa.Table.from_batches(list(batches)).slice(
                rows.first_row - group.first, rows.end_row - rows.first_row
            )

    def _file(self, file: str) -> tuple[Footer, list[int]]:
        """The footer of a file, and the row at which each group ends."""
        found = self._files.get(file)
        if found is None:
            footer = self._read_footer(file)
            found = footer, list(accumulate(group.rows for group in footer.layout.groups))
            self._files[file] = found
            while len(self._files) > KEPT_FOOTERS:
                self._files.popitem(last=False)
        self._files.move_to_end(file)
        return found

    def _read_footer(self, file: str) -> Footer:
        size = self.ranges.identity(file).bytes
        tail = bytes(self.ranges.read(file, max(size - TAIL_GUESS_BYTES, 0), size))
        length = int.from_bytes(tail[-TAIL_BYTES:-4], "little") + TAIL_BYTES
        if len(tail) < TAIL_BYTES or tail[-4:] != MAGIC or not TAIL_BYTES < length <= min(size, MAX_FOOTER_BYTES):
            raise ChunkFileError(file, "it does not end as a Parquet file does, or its footer is too large")
        data = tail[-length:] if length <= len(tail) else bytes(self.ranges.read(file, size - length, size))
        return Footer(file, data, size - length)

    def _span(self, file: str, group: _Group, columns: Sequence[str]) -> Span:
        found = group.footer.columns_span(group.number, columns)
        return Span(file, found.begin, found.end)

    def _by_group(self, wanted: Iterable[RowSpan]) -> Iterator[tuple[_Group, RowSpan]]:
        """The same rows, cut where row groups end, each with its group."""
        for rows in wanted:
            footer, ends = self._file(rows.file)
            check_rows(rows, ends[-1] if ends else 0)
            first = rows.first_row
            while first < rows.end_row:
                number = bisect_right(ends, first)
                start, stop = ends[number - 1] if number else 0, min(ends[number], rows.end_row)
                yield (
                    _Group(footer=footer, number=number, first=start, end=ends[number]),
                    RowSpan(rows.file, first, stop),
                )
                first = stop

    def _ids(self, group: _Group, data: bytes | memoryview, first: int, end: int) -> Iterator[RowBlock]:
        """Ids of rows `[first, end)` of a file, which lie in one group."""
        name, at = group.footer.name, group.first
        at_a_time = max(BLOCK_BYTES // (4 * self.row_len), 1)
        for batch in group.footer.batches(group.number, self._columns, memoryview(data), at_a_time):
            for column in self._columns:
                if column not in batch.schema.names:  # the footer has two schemas, and they can disagree
                    raise ChunkFileError(name, f"its footer promises a column '{column}', its row groups have none")
            low, high = max(first - at, 0), min(end - at, batch.num_rows)
            if low < high:
                part = batch.slice(low, high - low)
                labels = self._labels(name, part) if self.source is not None else None
                yield RowBlock(self._checked(name, part.column(self.column), at + low), labels)
            at += batch.num_rows
            if at >= end:
                return
        raise ChunkFileError(name, f"row group {group.number} ends at row {at}, its footer says {group.end}")

    def _labels(self, file: str, batch: pa.RecordBatch) -> tuple[str | None, ...]:
        labels = tuple(batch.column(self.source).to_pylist())
        if not all(label is None or isinstance(label, str) for label in labels):
            raise ChunkFileError(file, f"expected texts in '{self.source}', found other values")
        return labels

    def _checked(self, file: str, column: Any, first: int) -> Ids:
        if not any(is_kind(column.type) for is_kind in _LISTS):
            raise ChunkFileError(file, f"expected lists of ids in '{self.column}', found {str(column.type)[:60]}")
        values = column.flatten()
        if column.null_count or values.null_count or not pa.types.is_integer(values.type):
            raise ChunkFileError(file, f"expected whole numbers in '{self.column}', found {str(values.type)[:60]}")
        if pa.types.is_fixed_size_list(column.type):
            lengths = np.full(len(column), column.type.list_size)
        else:
            lengths = np.asarray(column.value_lengths())
        odd = np.flatnonzero(lengths != self.row_len)
        if odd.size:
            found = f"{int(lengths[odd[0]])} ids in row {first + int(odd[0])}"
            raise ChunkFileError(file, f"expected {self.row_len} ids in each row of '{self.column}', found {found}")
        numbers = np.asarray(values.to_numpy(zero_copy_only=False))
        return to_ids(file, numbers, numbers.dtype).reshape(-1, self.row_len)
