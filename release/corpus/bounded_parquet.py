"""Parquet of others, or parts of it: bounds are checked before anything is allocated or decoded."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from open360.release.corpus.chunk_file import ID_TYPES, chunk_schema, group_ranges
from open360.schema.errors import Open360Error

MAX_FOOTER_BYTES = 256 << 20
MAX_GROUP_BYTES = 1 << 30
DATA_BEGIN = 4  # after the magic bytes
TAIL_BYTES = 8  # length of the footer, magic bytes
PARQUET_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)
_MAGIC = b"PAR1"
_MIN_LIMIT, _MAX_RATIO = 64 << 20, 200  # unpacked bytes that a range may claim, in all and by packed byte


class ChunkFileError(Open360Error):
    """A chunk or a step table is broken, or claims what it cannot hold."""

    def __init__(self, file: str, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(f"{file}: {problem}; fetch or build the file again")


def footer_begin(name: str, data: bytes) -> int:
    """Where the footer begins in a whole Parquet file, or in its last bytes."""
    if len(data) < TAIL_BYTES or data[-4:] != _MAGIC:
        raise ChunkFileError(name, "it does not end as a Parquet file does")
    begin = len(data) - TAIL_BYTES - int.from_bytes(data[-8:-4], "little")
    if begin < 0 or len(data) - begin > MAX_FOOTER_BYTES:
        raise ChunkFileError(name, f"its footer claims {len(data) - begin} bytes, but {len(data)} are there")
    return begin


def parse_footer(name: str, footer: bytes) -> pq.FileMetaData:
    """Metadata of a Parquet file from its last bytes, which are the footer and nothing else. Raises ChunkFileError."""
    if footer_begin(name, footer) != 0:
        raise ChunkFileError(name, "its footer does not begin where its row groups end")
    try:
        file = pq.ParquetFile(
            io.BytesIO(_MAGIC + footer),
            thrift_string_size_limit=16 << 20,
            thrift_container_size_limit=4_000_000,
            pre_buffer=False,
        )
        return file.metadata
    except PARQUET_ERRORS as error:
        raise ChunkFileError(name, f"its footer cannot be read ({str(error)[:300]})") from error


def check_claims(name: str, metadata: pq.FileMetaData, data_end: int) -> None:
    """Raise ChunkFileError when a row group leaves the file, or claims to unpack to far more than it holds."""
    if metadata.num_columns > 64:
        raise ChunkFileError(name, f"it has {metadata.num_columns} columns, expected at most 64")
    for index, (begin, end) in enumerate(group_ranges(metadata)):
        group = metadata.row_group(index)
        columns = [group.column(column) for column in range(group.num_columns)]
        unpacked = sum(max(column.total_uncompressed_size, 0) for column in columns)
        limit = min(max(_MIN_LIMIT, _MAX_RATIO * (end - begin)), MAX_GROUP_BYTES)
        inside = all(
            column.data_page_offset >= DATA_BEGIN
            and column.total_compressed_size >= 0
            and column.data_page_offset + column.total_compressed_size <= data_end
            for column in columns
        )
        if not inside or not DATA_BEGIN <= begin <= end <= data_end:
            raise ChunkFileError(name, f"row group {index} lies at bytes {begin} to {end}, data ends at {data_end}")
        if unpacked > limit or not 0 <= group.num_rows <= limit:
            raise ChunkFileError(name, f"row group {index} claims {unpacked} bytes and {group.num_rows} rows")


class _OneRange(io.RawIOBase):
    """A file of which only one range is there; reading anything else is an error."""

    def __init__(self, begin: int, data: bytes, size: int) -> None:
        self._begin, self._data, self._size, self._at = begin, data, size, 0

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
        return self._data[first : first + size]


def decode_group(name: str, metadata: pq.FileMetaData, group: int, data: bytes) -> pa.Table:
    """Rows of one row group from the footer and the bytes of that group alone. Raises ChunkFileError."""
    begin, end = group_ranges(metadata)[group] if 0 <= group < metadata.num_row_groups else (0, -1)
    if end - begin != len(data):
        raise ChunkFileError(name, f"row group {group} has {end - begin} bytes by the footer, found {len(data)}")
    file = pa.PythonFile(_OneRange(begin, data, end + MAX_FOOTER_BYTES), mode="r")
    try:
        table = pq.ParquetFile(file, metadata=metadata, pre_buffer=False).read_row_group(group, use_threads=False)
    except PARQUET_ERRORS as error:
        raise ChunkFileError(name, f"row group {group} cannot be read ({str(error)[:300]})") from error
    if not any(table.schema.equals(chunk_schema(dtype)) for dtype in ID_TYPES):
        raise ChunkFileError(
            name, f"expected the columns {chunk_schema('uint16').names}, found {table.schema.names[:9]}"
        )
    return table
