"""Where things lie in a Parquet file, read from its footer and page headers without decoding anything.

Specification: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from open360.release.corpus.thrift_compact import ThriftError, read_struct
from open360.schema.errors import Open360Error

MAX_FOOTER_BYTES = 256 << 20
MAX_GROUP_BYTES = 1 << 30
DATA_BEGIN = 4  # after the magic bytes
TAIL_BYTES = 8  # length of the footer, magic bytes
MAGIC = b"PAR1"
_MIN_LIMIT, _MAX_RATIO = 64 << 20, 200  # unpacked bytes that a row group may have, in all and by packed byte
_MALFORMED = (ThriftError, LookupError, TypeError, AttributeError, ValueError)


class ChunkFileError(Open360Error):
    """A chunk or a step table is broken, or claims what it cannot hold."""

    def __init__(self, file: str, problem: str) -> None:
        self.file, self.problem = file, problem
        super().__init__(f"{file}: {problem}; fetch or build the file again")


@dataclass(frozen=True, kw_only=True)
class ColumnSpan:
    """Pages of one column in one row group: bytes `[begin, end)` of the file. `path` is its place in the schema."""

    path: tuple[str, ...]
    begin: int
    end: int
    unpacked: int
    values: int


@dataclass(frozen=True, kw_only=True)
class GroupSpan:
    """A row group: bytes `[begin, end)` of the file, from the first column's first page to the last one's end."""

    rows: int
    begin: int
    end: int
    columns: tuple[ColumnSpan, ...]


@dataclass(frozen=True, kw_only=True)
class ParquetLayout:
    """What a footer says."""

    rows: int
    groups: tuple[GroupSpan, ...]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Byte range of each row group."""
        return [(group.begin, group.end) for group in self.groups]


def footer_begin(name: str, data: bytes) -> int:
    """Where the footer begins in a whole Parquet file, or in its last bytes. Raises ChunkFileError."""
    if len(data) < TAIL_BYTES or data[-4:] != MAGIC:
        raise ChunkFileError(name, "it does not end as a Parquet file does")
    begin = len(data) - TAIL_BYTES - int.from_bytes(data[-8:-4], "little")
    if begin < 0 or len(data) - begin > MAX_FOOTER_BYTES:
        raise ChunkFileError(name, f"its footer claims {len(data) - begin} bytes, but {len(data)} are there")
    return begin


def read_layout(name: str, footer: bytes, data_end: int) -> ParquetLayout:
    """The layout that a footer (the last bytes of a file, from `data_end` on) describes.

    Raises:
        ChunkFileError: it is malformed, or a row group leaves bytes `[DATA_BEGIN, data_end)` of the file, or claims far
            more rows, values or unpacked bytes than it can hold.
    """
    if footer_begin(name, footer) != 0:
        raise ChunkFileError(name, "its footer does not begin where its row groups end")
    try:
        fields, end = read_struct(footer)
        layout = ParquetLayout(rows=_count(fields[3]), groups=tuple(_group(group) for group in fields[4]))
    except _MALFORMED as error:
        raise ChunkFileError(name, f"its footer is malformed ({error})") from error
    if end != len(footer) - TAIL_BYTES or layout.rows != sum(group.rows for group in layout.groups):
        raise ChunkFileError(name, "its footer has another length, or its row groups other rows, than it says")
    for index, group in enumerate(layout.groups):
        limit = _limit(group)
        if not DATA_BEGIN <= group.begin <= group.end <= data_end:
            raise ChunkFileError(name, f"row group {index} is bytes {group.begin} to {group.end} of {data_end}")
        if max(sum(c.unpacked for c in group.columns), group.rows, *(4 * c.values for c in group.columns)) > limit:
            raise ChunkFileError(
                name, f"row group {index} claims more than its {group.end - group.begin} bytes can hold"
            )
    return layout


def _limit(group: GroupSpan) -> int:
    return min(max(_MIN_LIMIT, _MAX_RATIO * (group.end - group.begin)), MAX_GROUP_BYTES)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ThriftError(f"expected a count, found {value!r}")
    return value


def _group(fields: dict[int, Any]) -> GroupSpan:
    columns = tuple(_column(column) for column in fields[1])
    return GroupSpan(
        rows=_count(fields[3]),
        begin=min(column.begin for column in columns),
        end=max(column.end for column in columns),
        columns=columns,
    )


def _column(fields: dict[int, Any]) -> ColumnSpan:
    if 1 in fields:
        raise ThriftError("a column lies in another file")
    about = fields[3]
    begin = _count(about[9])
    if about.get(11):  # the page of a dictionary comes first
        begin = min(begin, _count(about[11]))
    return ColumnSpan(
        path=tuple(part.decode() for part in about[3]),
        begin=begin,
        end=begin + _count(about[7]),
        unpacked=_count(about[6]),
        values=_count(about[5]),
    )


def check_pages(name: str, group: GroupSpan, data: bytes | memoryview) -> None:
    """Raise ChunkFileError when the pages of a row group, whose bytes are `data`, claim other sizes than the footer.

    A decoder allocates what a page header claims; so this is looked at first.
    """
    for number, column in enumerate(group.columns):
        try:
            sizes = list(_pages(data, column.begin - group.begin, column.end - group.begin))
        except _MALFORMED as error:
            raise ChunkFileError(name, f"column {number} of a row group has a malformed page ({error})") from error
        unpacked, values = (sum(part) for part in zip(*sizes, strict=True)) if sizes else (0, 0)
        if unpacked > column.unpacked or values > max(column.values, 1):
            raise ChunkFileError(
                name, f"column {number} of a row group unpacks to {unpacked} bytes, its footer says {column.unpacked}"
            )


def _pages(data: bytes | memoryview, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """`(unpacked bytes with header, values)` of each page; a dictionary has no values of its own."""
    if not 0 <= begin <= end <= len(data):
        raise ThriftError("a column leaves its row group")
    at = begin
    while at < end:
        header, after = read_struct(data, at)
        body = after - at
        size = body + _count(header[3])
        if size > end - at:
            raise ThriftError(f"a page of {size} bytes leaves its column")
        counts = header.get(5) or header.get(8) or {1: 0}
        yield body + _count(header[2]), _count(counts[1])
        at += size
