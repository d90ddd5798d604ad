"""Rows stored as JSON lines, plain or packed with zstd (Amber, K2): a list of ids in each line.

With a line index the rows that are wanted are read and nothing else; in a zstd file, from the beginning of the frame
that holds the first of them. Without one a file is read from its beginning until the rows are complete: how far that
is follows from the rows that were seen, so that little is read beyond. Rows out of order are given from one pass.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from open360.release.formats.fetching import fetched, gathered, reads_for
from open360.release.formats.indexing import is_packed
from open360.release.formats.line_index import LineIndex
from open360.release.formats.passes import in_one_pass, requests_by
from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.formats.rows import BLOCK_BYTES, Reading, RowBlock, RowReader, check_rows
from open360.release.formats.zstd_stream import Frame, Unpacked
from open360.release.order.file_rows import RowSpan
from open360.release.order.json_rows import MAX_LINE_BYTES, JsonRow, parse_row
from open360.release.order.spans import OrderError, Span

FIRST_BYTES = 1 << 20
PIECE_BYTES = 4 << 20
PLACED_ROWS = 1 << 14  # rows whose places are looked up at a time
SPARE = 1.01  # of what seems to be needed
_INDEX_IT = "make a line index with 'open360 index'"

Indexes = Callable[[str], LineIndex | None]


class JsonReader(RowReader):
    """Rows of files of JSON lines.

    Args:
        ids, source: keys of a row's ids, and of the label of its source.
        index_of: the line index of a file, where there is one; it is compared with the file.
        rows: rows of each file as declared, for estimates.
    """

    def __init__(
        self,
        ranges: Ranges,
        *,
        row_len: int,
        ids: str,
        source: str | None = None,
        index_of: Indexes = lambda _: None,
        rows: int | None = None,
    ) -> None:
        super().__init__(ranges, row_len)
        self.ids, self.source, self.declared = ids, source, rows
        self._index_of = index_of
        self._indexes: dict[str, LineIndex | None] = {}

    def index(self, file: str) -> LineIndex | None:
        """The line index of a file, which is of this very file. Raises DataFileError."""
        if file not in self._indexes:
            found = self._index_of(file)
            if found is not None:
                found.check_file(file, self.ranges.identity(file))
                if found.is_zstd != is_packed(file):
                    raise DataFileError(f"{file}, line index", "one of this format", "another", _INDEX_IT)
            self._indexes[file] = found
        return self._indexes[file]

    def rows_of(self, file: str) -> int:
        """By the line index. Raises DataFileError without one: only reading the whole file would tell."""
        index = self.index(file)
        if index is None:
            raise DataFileError(file, "a line index that says how many rows it has", "none", _INDEX_IT)
        return index.rows

    def reading(self, wanted: Sequence[RowSpan]) -> Reading:
        """With line indexes exact for plain files; else from the beginning, as far as may be needed."""
        spans: list[Span] = []
        estimated = False
        for rows in wanted:
            index, size = self.index(rows.file), self.ranges.identity(rows.file).bytes
            if index is not None and not index.is_zstd:
                spans += [span for _, span in self._parts(rows, index)]
            elif rows.first_row < rows.end_row:
                begin, end = self._packed_range(rows, index, size)
                spans.append(Span(rows.file, begin, end))
                estimated = True
        return Reading(reads=tuple(reads_for(spans)), estimated=estimated)

    def blocks(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        """The rows, in order. Neighbouring requests of one file that can only be read forwards are one pass."""
        for way, many in itertools.groupby(wanted, key=self._way):
            if way[0] == "by index":
                yield from self._by_index(many)
            else:
                placed = ((way, rows) for rows in many)
                for _, requests in requests_by(placed, 4 * self.row_len):
                    run = self._pass_over(requests[0].file)
                    yield from in_one_pass(requests, run, self.row_len)

    def _way(self, rows: RowSpan) -> tuple[str, str, int]:
        index = self.index(rows.file)
        if index is None:
            return "forwards", rows.file, 0
        check_rows(rows, index.rows)
        if index.frames is None:
            return "by index", "", 0
        return "forwards", rows.file, index.frame_of(index.place(rows.first_row))

    # By index

    def _parts(self, rows: RowSpan, index: LineIndex) -> Iterator[tuple[RowSpan, Span]]:
        """The rows in parts of at most `BLOCK_BYTES`, or of one row, and where they lie."""
        check_rows(rows, index.rows)
        first = rows.first_row
        while first < rows.end_row:
            places = index.places(first, min(first + PLACED_ROWS, rows.end_row))
            count = max(int(np.searchsorted(places, places[0] + BLOCK_BYTES, side="right")) - 1, 1)
            yield RowSpan(rows.file, first, first + count), Span(rows.file, int(places[0]), int(places[count]))
            first += count

    def _by_index(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        asked: deque[RowSpan] = deque()

        def spans() -> Iterator[list[Span]]:
            for rows in wanted:
                index = self.index(rows.file)
                assert index is not None  # noqa: S101
                for part, span in self._parts(rows, index):
                    asked.append(part)
                    yield [span]

        for data in gathered(self.ranges, spans()):
            part = asked.popleft()
            lines = [line for line in bytes(data).split(b"\n") if line.strip()]
            if len(lines) != part.end_row - part.first_row:
                where = f"{part.file}, rows {part.first_row} to {part.end_row}"
                raise DataFileError(where, "that many lines by the line index", f"{len(lines)} lines", _INDEX_IT)
            yield self._block([self._row(part.file, part.first_row + at, line) for at, line in enumerate(lines)])

    # Forwards

    def _pass_over(self, file: str) -> Callable[[int, int], Iterator[RowBlock]]:
        def run(first: int, end: int) -> Iterator[RowBlock]:
            found: list[JsonRow] = []
            size = 0
            for row, line in self._lines(file, first, end):
                found.append(self._row(file, row, line))
                size += len(line)
                if size >= BLOCK_BYTES:
                    yield self._block(found)
                    found, size = [], 0
            if found:
                yield self._block(found)

        return run

    def _lines(self, file: str, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Lines of rows `[first, end)` with their numbers. Raises DataFileError when there are fewer."""
        if first == end:
            return
        index = self.index(file)
        row = begin = 0
        start = Frame(0, 0)
        if index is not None and index.frames is not None:
            row, begin = first, index.place(first)
            start = index.frames[index.frame_of(begin)]
        seen = _Progress(first=first if index is not None else 0, end=end, row=row)
        at, rest = start.unpacked, b""
        for block in self._unpacked(file, start, index, seen):
            *lines, rest = (rest + bytes(block[max(begin - at, 0) :])).split(b"\n")
            at += len(block)
            for line in lines:
                if line.strip():
                    if row >= first:
                        yield row, line
                    row += 1
                    if row == end:
                        return
            seen.row = row
            if len(rest) > MAX_LINE_BYTES:
                raise DataFileError(f"{file}, row {row}", f"a line of at most {MAX_LINE_BYTES} bytes", "more", "look")
        if rest.strip() and row >= first:
            yield row, rest
        row += bool(rest.strip())
        if row < end:
            raise DataFileError(file, f"rows {first} to {end}", f"{row} rows", "see 'open360 validate'")

    def _unpacked(
        self, file: str, start: Frame, index: LineIndex | None, seen: _Progress
    ) -> Iterator[bytes | memoryview]:
        size = self.ranges.identity(file).bytes
        if index is not None:
            size = self._packed_range(RowSpan(file, seen.first, seen.end), index, size)[1]
        source = self._forwards(file, start.packed, size, seen)
        return iter(Unpacked(file, source, start)) if is_packed(file) else source

    def _forwards(self, file: str, begin: int, size: int, seen: _Progress) -> Iterator[memoryview]:
        at = begin
        while at < size:
            stop = min(max(seen.needed(begin, at), at + FIRST_BYTES), size)
            spans = (Span(file, low, min(low + PIECE_BYTES, stop)) for low in range(at, stop, PIECE_BYTES))
            yield from fetched(self.ranges, spans)
            at = stop

    def _packed_range(self, rows: RowSpan, index: LineIndex | None, size: int) -> tuple[int, int]:
        """From where to where a file has to be read for rows, at most."""
        if index is None or index.frames is None:
            share = rows.end_row / self.declared if self.declared else 1.0
            return 0, min(int(share * SPARE * size) + FIRST_BYTES, size)
        frames = index.frames
        first = index.frame_of(index.place(rows.first_row))
        last = index.frame_of(max(index.place(rows.end_row) - 1, 0))
        return frames[first].packed, frames[last + 1].packed if last + 1 < len(frames) else size

    # Rows

    def _row(self, file: str, row: int, line: bytes) -> JsonRow:
        try:
            found = parse_row(f"{file}, row {row}", line, ids=self.ids, source=self.source)
        except OrderError as error:
            raise DataFileError(error.thing, "a row of ids", error.problem, "see 'open360 validate'") from error
        if found.ids.size != self.row_len:
            found_ids = f"{found.ids.size} ids"
            raise DataFileError(f"{file}, row {row}", f"{self.row_len} ids", found_ids, "see 'open360 validate'")
        return found

    def _block(self, rows: list[JsonRow]) -> RowBlock:
        sources = tuple(row.source for row in rows) if self.source is not None else None
        return RowBlock(np.stack([row.ids for row in rows]), sources)


class _Progress:
    """How far a pass has come: it is at `row` of the rows up to `end`, having begun at row `first`."""

    def __init__(self, *, first: int, end: int, row: int) -> None:
        self.first, self.end, self.row = first, end, row
        self._begun = row

    def needed(self, begin: int, at: int) -> int:
        """Up to which byte of the file the wanted rows should lie."""
        done, left = self.row - self._begun, self.end - self.row
        return at + int(SPARE * left * (at - begin) / done) if done > 0 else at
