"""Megatron's and GPT-NeoX's data: raw ids in `.bin`, and where its sequences lie in `.idx`.

`.idx`: magic `MMIDIDX\\0\\0`, u64 version 1, u8 number type, u64 sequences n, u64 documents m (34 bytes); then int32
sizes[n], int64 first bytes[n], int64 first sequence of each document[m]. Source: megatron/data/indexed_dataset.py.

Megatron-core's own dataset reads from object stores, but no plain http, fetches the whole index (1.7 GB for Pythia's)
and needs torch; so the parts of the index that are asked for are read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.far_array import FarArray
from open360.release.formats.fetching import gathered, reads_for
from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.formats.rows import (
    BLOCK_BYTES,
    FixedReader,
    Ids,
    Reading,
    RowBlock,
    RowReader,
    StreamReader,
    check_rows,
    in_blocks,
    in_order,
)
from open360.release.formats.token_ids import dtype_of_code, to_ids
from open360.release.order.file_rows import RowSpan
from open360.release.order.sample_maps import Documents, SampleMaps
from open360.release.order.spans import Span, StoredFile, spans

MAGIC = b"MMIDIDX\x00\x00"
HEADER_BYTES = 34
_NEXT_STEP = "fetch it again, or correct the format in the spec"


@dataclass(frozen=True, kw_only=True)
class IndexHeader:
    """What the header of an `.idx` says."""

    dtype: np.dtype[np.integer]
    sequences: int
    documents: int


def parse_index_header(name: str, head: bytes, file_bytes: int) -> IndexHeader:
    """The header of an `.idx` of `file_bytes` bytes, from its first 34 bytes.

    Raises DataFileError: another magic or version, no whole numbers, or another size than the file has.
    """
    if len(head) < HEADER_BYTES or head[:9] != MAGIC:
        raise DataFileError(name, f"a header that begins with {MAGIC!r}", repr(head[:9]), _NEXT_STEP)
    version = int.from_bytes(head[9:17], "little")
    if version != 1:
        raise DataFileError(f"{name}, version of its header", "1", str(version), _NEXT_STEP)
    sequences, documents = (int.from_bytes(head[at : at + 8], "little") for at in (18, 26))
    stated = HEADER_BYTES + 12 * sequences + 8 * documents
    if stated != file_bytes:
        raise DataFileError(name, f"{stated} bytes, as its header says", f"{file_bytes} bytes", _NEXT_STEP)
    return IndexHeader(dtype=dtype_of_code(name, head[17]), sequences=sequences, documents=documents)


class MegatronIndex:
    """An `.idx`, read where it is asked."""

    def __init__(self, ranges: Ranges, path: str) -> None:
        size = ranges.identity(path).bytes
        self.path = path
        self.header = parse_index_header(path, bytes(ranges.read(path, 0, min(size, HEADER_BYTES))), size)
        n, m = self.header.sequences, self.header.documents
        at = HEADER_BYTES
        self.sizes = FarArray(ranges, path, dtype=np.dtype("<i4"), begin=at, shape=(n,))
        self.pointers = FarArray(ranges, path, dtype=np.dtype("<i8"), begin=at + 4 * n, shape=(n,))
        self.first_sequences = FarArray(ranges, path, dtype=np.dtype("<i8"), begin=at + 12 * n, shape=(m,))

    def documents(self) -> Documents:
        """Its sequences as the index maps of a sampler take them."""
        return Documents(sizes=self.sizes, pointers=self.pointers, id_bytes=self.header.dtype.itemsize)


class MegatronReader(FixedReader):
    """Sequences of `.bin` files by their `.idx`: row i is sequence i, and has to have `row_len` ids.

    Args:
        files: the `.bin` files in order; the first bytes in the index count through all of them.
    """

    def __init__(self, ranges: Ranges, files: Sequence[StoredFile], index: MegatronIndex, *, row_len: int) -> None:
        super().__init__(ranges, row_len)
        self.files, self.index = files, index
        self._bytes = sum(file.bytes - file.begin for file in files)

    def dtype_of(self, file: str) -> np.dtype[np.integer]:
        """As the index says."""
        del file
        return self.index.header.dtype

    def rows_of(self, file: str) -> int:
        """Sequences of the index."""
        del file
        return self.index.header.sequences

    def spans_of(self, rows: RowSpan) -> list[Span]:
        """Bytes of sequences; the index is read for it."""
        sizes, found = self._places(rows)
        odd = np.flatnonzero(sizes != self.row_len)
        if odd.size:
            where = f"{self.index.path}, row {rows.first_row + int(odd[0])}"
            found_ids = f"{int(sizes[odd[0]])} ids"
            raise DataFileError(where, f"{self.row_len} ids", found_ids, "its sequences are documents, not rows")
        return in_order(chain.from_iterable(found))

    def sequences(self, first: int, end: int) -> Iterator[Ids]:
        """Sequences `[first, end)`, of whatever length: arrays of shape (ids,)."""
        for part in in_blocks(RowSpan(self.index.path, first, end), 1 << 6):
            sizes, found = self._places(part)
            empty = np.empty(0, dtype=np.uint32)
            data = gathered(self.ranges, found)
            for size in sizes.tolist():
                yield to_ids(self.index.path, next(data), self.index.header.dtype) if size else empty

    def _places(self, rows: RowSpan) -> tuple[NDArray[Any], list[list[Span]]]:
        """Sizes of sequences, and the bytes of each."""
        check_rows(rows, self.index.header.sequences)
        sizes = self.index.sizes[rows.first_row : rows.end_row]
        pointers = self.index.pointers[rows.first_row : rows.end_row]
        lengths = sizes.astype(np.int64) * self.index.header.dtype.itemsize
        bad = np.flatnonzero((sizes < 0) | (pointers < 0) | (pointers > self._bytes - lengths))
        if bad.size:
            at = int(bad[0])
            where, found = f"{self.index.path}, sequence {rows.first_row + at}", f"{lengths[at]} at {pointers[at]}"
            raise DataFileError(where, f"a range of the {self._bytes} bytes of data", f"bytes {found}", _NEXT_STEP)
        places = zip(pointers.tolist(), (pointers + lengths).tolist(), strict=True)
        return sizes, [spans(self.files, 1, begin, end) for begin, end in places]


class SampleReader(RowReader):
    """Samples of a sampler's index maps: ids that are strung together from shuffled documents of a stream.

    A row span counts samples, whatever file it names.
    """

    def __init__(self, stream: StreamReader, maps: SampleMaps) -> None:
        super().__init__(stream.ranges, maps.row_len)
        self.stream, self.maps = stream, maps

    def rows_of(self, file: str) -> int:
        """Samples of the maps."""
        del file
        return self.maps.samples

    def reading(self, wanted: Sequence[RowSpan]) -> Reading:
        """Ranges of the documents' parts; the maps are read for it."""
        return Reading(reads=tuple(reads_for([span for group in self._groups(wanted) for span in self._spans(group)])))

    def blocks(self, wanted: Iterable[RowSpan]) -> Iterator[RowBlock]:
        """The samples, in order."""
        dtype = self.stream.dtype_of("")
        for data in gathered(self.ranges, map(self._spans, self._groups(wanted))):
            yield RowBlock(to_ids(self.maps.name, data, dtype).reshape(-1, self.row_len))

    def _groups(self, wanted: Iterable[RowSpan]) -> Iterator[list[int]]:
        numbers: list[int] = []
        at_a_time = max(BLOCK_BYTES // (self.row_len * self.stream.dtype_of("").itemsize), 1)
        for rows in wanted:
            for number in range(rows.first_row, rows.end_row):
                numbers.append(number)
                if len(numbers) == at_a_time:
                    yield numbers
                    numbers = []
        if numbers:
            yield numbers

    def _spans(self, samples: list[int]) -> list[Span]:
        size = self.stream.dtype_of("").itemsize
        parts = chain.from_iterable(self.maps.parts(samples))
        found = (self.stream.bytes_of(part.at, part.at + (part.end - part.begin) * size) for part in parts)
        return in_order(chain.from_iterable(found))
