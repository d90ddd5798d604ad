"""Decodes Parquet of others: what it claims is checked before the decoder sees it, and only given bytes are read."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from open360.release.corpus.chunk_file import ID_TYPES, chunk_schema
from open360.release.corpus.parquet_layout import (
    DATA_BEGIN,
    MAGIC,
    MAX_FOOTER_BYTES,
    ChunkFileError,
    GroupSpan,
    ParquetLayout,
    check_pages,
    footer_begin,
    read_layout,
)

PAGE_BYTES = 1 << 20  # taken at a time from a column that is unpacked batch by batch
_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)


class Footer:
    """The footer of a Parquet file, checked.

    Args:
        name: of the file, for messages.
        data: the last bytes of the file, from the end of its row groups on.
        data_end: where that is.
    Raises:
        ChunkFileError: see `read_layout`.
    """

    def __init__(self, name: str, data: bytes, data_end: int) -> None:
        self.name = name
        self.layout: ParquetLayout = read_layout(name, data, data_end)
        try:
            self._metadata = pq.read_metadata(io.BytesIO(MAGIC + data))
        except _ERRORS as error:
            raise ChunkFileError(name, f"its footer cannot be read ({str(error)[:300]})") from error

    def decode(self, group: int, data: bytes) -> pa.Table:
        """Rows of one row group from its bytes alone. Raises ChunkFileError."""
        span = self.layout.groups[group]
        if span.end - span.begin != len(data):
            raise ChunkFileError(self.name, f"row group {group} has {span.end - span.begin} bytes, found {len(data)}")
        check_pages(self.name, span, data)
        file = pa.PythonFile(_OneRange(span.begin, data), mode="r")
        try:
            reader = pq.ParquetFile(file, metadata=self._metadata, pre_buffer=False)
            return reader.read_row_group(group, use_threads=False)
        except _ERRORS as error:
            raise ChunkFileError(self.name, f"row group {group} cannot be read ({str(error)[:300]})") from error

    def columns_span(self, group: int, names: Sequence[str]) -> GroupSpan:
        """Some columns of a row group, as a group of their own: `begin` and `end` are those of what lies between.

        Raises ChunkFileError when there is no such column.
        """
        whole = self.layout.groups[group]
        found = tuple(column for column in whole.columns if column.path[0] in names)
        missing = set(names) - {column.path[0] for column in found}
        if missing:
            known = sorted({column.path[0] for column in whole.columns})[:8]
            raise ChunkFileError(self.name, f"expected a column '{min(missing)}', found {known}")
        begin, end = min(column.begin for column in found), max(column.end for column in found)
        return GroupSpan(rows=whole.rows, begin=begin, end=end, columns=found)

    def batches(self, group: int, names: Sequence[str], data: memoryview, rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of a row group from the bytes of `columns_span`, at most `rows` rows at a time.

        Raises ChunkFileError.
        """
        span = self.columns_span(group, names)
        if span.end - span.begin != len(data):
            raise ChunkFileError(self.name, f"row group {group} has {span.end - span.begin} bytes, found {len(data)}")
        check_pages(self.name, span, data)
        file = pa.PythonFile(_OneRange(span.begin, data), mode="r")
        try:
            reader = pq.ParquetFile(file, metadata=self._metadata, pre_buffer=False, buffer_size=PAGE_BYTES)
            yield from reader.iter_batches(rows, row_groups=[group], columns=list(names), use_threads=False)
        except _ERRORS as error:
            raise ChunkFileError(self.name, f"row group {group} cannot be read ({str(error)[:300]})") from error


def decode_rows(footer: Footer, group: int, data: bytes) -> pa.Table:
    """Rows of one row group of a chunk, from the footer and the bytes of that group alone. Raises ChunkFileError."""
    table = footer.decode(group, data)
    if not any(table.schema.equals(chunk_schema(dtype)) for dtype in ID_TYPES):
        names = chunk_schema("uint16").names
        raise ChunkFileError(footer.name, f"expected the columns {names} of a chunk, found {table.schema.names[:9]}")
    return table


def read_whole(name: str, data: bytes) -> pa.Table:
    """All rows of a small Parquet file. Raises ChunkFileError."""
    begin = footer_begin(name, data)
    footer = Footer(name, data[begin:], begin)
    if not footer.layout.groups or data[:DATA_BEGIN] != MAGIC:
        raise ChunkFileError(name, "it has no rows, or does not begin as a Parquet file does")
    parts = [footer.decode(index, data[first:end]) for index, (first, end) in enumerate(footer.layout.ranges)]
    return pa.concat_tables(parts)


class _OneRange(io.RawIOBase):
    """A file of which only one range is there; reading anything else is an error."""

    def __init__(self, begin: int, data: bytes | memoryview) -> None:
        self._begin, self._data, self._at = begin, data, 0
        self._size = begin + len(data) + MAX_FOOTER_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """Bytes of the whole file."""
        return self._size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        first = self._at - self._begin
        if size < 0 or first < 0 or first + size > len(self._data):
            raise OSError(f"bytes {self._at} to {self._at + size} lie outside the row group")
        self._at += size
        return bytes(self._data[first : first + size])
