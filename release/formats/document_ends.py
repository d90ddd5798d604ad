"""Which documents a row holds, from the places where documents end: datatrove's `.ds.index`.

`.ds.index` is the number of ids up to the end of each document, u64 little-endian; `.ds` has nothing between them.
Rows are windows over it that do not care where documents end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.ranges import DataFileError, Ranges

MAX_INDEX_BYTES = 512 << 20
SUFFIX = ".index"


class DocumentPart(NamedTuple):
    """`length` ids of a row from `start` on are the ids from `offset` on of a document (its number in the file)."""

    document: int
    start: int
    length: int
    offset: int


class DocumentEnds:
    """Where documents end in a file of ids. Memory: 8 bytes a document."""

    def __init__(self, ends: NDArray[np.int64]) -> None:
        self.ends = ends

    def parts(self, first_id: int, end_id: int) -> list[DocumentPart]:
        """The documents that ids `[first_id, end_id)` of the file belong to; ids after the last document to none."""
        found: list[DocumentPart] = []
        at = first_id
        document = int(np.searchsorted(self.ends, first_id, side="right"))
        while at < end_id and document < self.ends.size:
            begin = int(self.ends[document - 1]) if document else 0
            stop = min(end_id, int(self.ends[document]))
            if at < stop:
                found.append(DocumentPart(document, at - first_id, stop - at, at - begin))
            at, document = max(at, stop), document + 1
        return found


def parse_document_ends(name: str, data: bytes, ids: int) -> DocumentEnds:
    """A `.ds.index` from its bytes; `ids` are in the file that it is of. Raises DataFileError."""
    if len(data) % 8:
        raise DataFileError(name, "8 bytes a document", f"{len(data)} bytes", "fetch it again")
    ends = np.frombuffer(data, dtype="<u8")
    if ends.size and (int(ends.max()) > ids or bool(np.any(ends[1:] < ends[:-1]))):
        found = f"document ends up to {int(ends.max())}, or out of order"
        raise DataFileError(name, f"growing ends of documents up to {ids} ids", found, "fetch it again")
    return DocumentEnds(ends.astype(np.int64))


def read_document_ends(ranges: Ranges, file: str, ids: int) -> DocumentEnds:
    """The index that lies beside a `.ds` file of `ids` ids. Raises DataFileError and what `Ranges` raises."""
    path = f"{file}{SUFFIX}"
    size = ranges.identity(path).bytes
    if size > MAX_INDEX_BYTES:
        raise DataFileError(path, f"an index of at most {MAX_INDEX_BYTES} bytes", f"{size} bytes", "ask its authors")
    return parse_document_ends(path, bytes(ranges.read(path, 0, size)), ids)
