"""Files that hold whole rows each, what is left over at the end of one dropped: raw, with a header, or NumPy's own.

* OLMo's `.npy`: raw ids without a header. Instance j is ids `[j * L, (j + 1) * L)`. A file set is written by one
  program, so whether its files are real NumPy files is looked at in the first file that is read; a header at the
  beginning of another one is an error.
* real `.npy`: one column of ids, or a table of `row_len` columns. Never unpickled.
* datatrove `.ds`: raw ids; window j is ids `[j * (L + 1), (j + 1) * (L + 1))`, without overlap.
* lit-gpt's packed `.bin` (TinyLlama): a header of 24 bytes, `LITPKDS`, version 1, number type, ids.

The peers' own readers are not used: OLMo-core's asks for one instance at a time, datatrove's and lit-gpt's read local
files, and all three need torch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.formats.rows import FixedReader, check_rows
from open360.release.formats.token_ids import dtype_of_code
from open360.release.order.file_rows import RowSpan
from open360.release.order.npy_header import HEAD_BYTES, has_npy_header, parse_npy_header
from open360.release.order.spans import Span

LITPKDS_MAGIC = b"LITPKDS"
LITPKDS_HEADER_BYTES = 24


@dataclass(frozen=True, kw_only=True)
class IdArea:
    """Ids of one type, one after the other, in bytes `[begin, end)` of a file."""

    dtype: np.dtype[np.integer]
    begin: int
    end: int

    @property
    def ids(self) -> int:
        """Whole ids."""
        return (self.end - self.begin) // self.dtype.itemsize


class ShardReader(FixedReader):
    """Rows of files that hold whole rows.

    Args:
        area: `(file, its bytes) -> where its ids lie`; asked once for each file.
        sizes: bytes of files as far as the caller knows them; asked for where it does not.
        overlap: ids that a row shares with the row before in the file.
    """

    def __init__(
        self,
        ranges: Ranges,
        *,
        row_len: int,
        area: Callable[[str, int], IdArea],
        sizes: dict[str, int] | None = None,
        overlap: int = 0,
    ) -> None:
        super().__init__(ranges, row_len, overlap)
        self._find, self._sizes = area, sizes or {}
        self._areas: dict[str, IdArea] = {}

    def area_of(self, file: str) -> IdArea:
        """Where the ids of a file lie."""
        if file not in self._areas:
            size = self._sizes.get(file)
            self._areas[file] = self._find(file, size if size is not None else self.ranges.identity(file).bytes)
        return self._areas[file]

    def dtype_of(self, file: str) -> np.dtype[np.integer]:
        """The type of its ids."""
        return self.area_of(file).dtype

    def rows_of(self, file: str) -> int:
        """Whole rows of a file."""
        return max(self.area_of(file).ids - self.overlap, 0) // self.stride

    def spans_of(self, rows: RowSpan) -> list[Span]:
        """The one range of the rows."""
        check_rows(rows, self.rows_of(rows.file))
        if rows.first_row == rows.end_row:
            return []
        area = self.area_of(rows.file)
        first, end = rows.first_row * self.stride, (rows.end_row - 1) * self.stride + self.row_len
        size = area.dtype.itemsize
        return [Span(rows.file, area.begin + first * size, area.begin + end * size)]

    def check(self, span: Span, data: memoryview) -> None:
        """The header of another format is not taken for ids."""
        if span.begin == 0 and (has_npy_header(bytes(data[:8])) or bytes(data[:7]) == LITPKDS_MAGIC):
            raise DataFileError(span.path, "raw ids", "a file with a header", "correct the format in the spec")


def raw_area(dtype: np.dtype[np.integer]) -> Callable[[str, int], IdArea]:
    """Raw ids without a header."""
    return lambda _, size: IdArea(dtype=dtype, begin=0, end=size)


class NumpyAreas:
    """Where the ids of `.npy` files lie: real ones, or raw ones that are called so.

    Args:
        dtype: of raw files, and what real ones have to say.
    """

    def __init__(self, ranges: Ranges, *, dtype: np.dtype[np.integer], row_len: int) -> None:
        self._ranges, self._dtype, self._row_len = ranges, dtype, row_len
        self._are_raw: bool | None = None
        self._lock = threading.Lock()

    def __call__(self, file: str, size: int) -> IdArea:
        """The ids of a file. Raises DataFileError, OrderError."""
        with self._lock:
            if self._are_raw:
                return IdArea(dtype=self._dtype, begin=0, end=size)
            head = bytes(self._ranges.read(file, 0, min(size, HEAD_BYTES)))
            is_raw = not has_npy_header(head)
            if self._are_raw is not None and is_raw:
                raise DataFileError(file, "a NumPy file like those before it", "none", "see 'open360 validate'")
            self._are_raw = is_raw
        return IdArea(dtype=self._dtype, begin=0, end=size) if is_raw else self._real(file, head, size)

    def _real(self, file: str, head: bytes, size: int) -> IdArea:
        layout = parse_npy_header(file, head, size)
        if len(layout.shape) != 1 and (len(layout.shape) != 2 or layout.shape[1] != self._row_len):
            expected = f"one column of ids, or {self._row_len} of them"
            raise DataFileError(file, expected, f"the shape {layout.shape}", "correct row_len in the spec")
        return IdArea(dtype=layout.dtype, begin=layout.begin, end=size)


class LitpkdsAreas:
    """Where the ids of lit-gpt's packed files lie."""

    def __init__(self, ranges: Ranges) -> None:
        self._ranges = ranges

    def __call__(self, file: str, size: int) -> IdArea:
        """The ids of a file, by its header. Raises DataFileError."""
        return parse_litpkds_header(file, bytes(self._ranges.read(file, 0, min(size, LITPKDS_HEADER_BYTES))), size)


def parse_litpkds_header(name: str, head: bytes, file_bytes: int) -> IdArea:
    """Header of a packed file: magic (7 bytes), version (u64), number type (u8), ids (u64), all little-endian.

    Raises DataFileError: another magic or version, no whole numbers, or another size than the file has.
    Source: lit_gpt/packed_dataset.py.
    """
    next_step = "fetch it again, or correct the format in the spec"
    if len(head) < LITPKDS_HEADER_BYTES or head[:7] != LITPKDS_MAGIC:
        raise DataFileError(name, f"a header that begins with {LITPKDS_MAGIC!r}", repr(head[:7]), next_step)
    version = int.from_bytes(head[7:15], "little")
    if version != 1:
        raise DataFileError(f"{name}, version of its header", "1", str(version), next_step)
    dtype = dtype_of_code(name, head[15])
    ids = int.from_bytes(head[16:24], "little")
    stated = LITPKDS_HEADER_BYTES + ids * dtype.itemsize
    if stated != file_bytes:
        raise DataFileError(name, f"{stated} bytes, as its header says", f"{file_bytes} bytes", next_step)
    return IdArea(dtype=dtype, begin=LITPKDS_HEADER_BYTES, end=file_bytes)
