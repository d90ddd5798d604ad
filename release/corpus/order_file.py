"""Sorts documents into training order on disk, so that memory does not grow with the corpus.

Each document copy is a fixed-size record with its sort key and where its ids and its name lie in two scratch files.
Records of a large corpus are spread over 256 files by the first byte of the key; the files are then sorted one by one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RECORD = np.dtype(
    [
        ("key", "S32"),
        ("tie", "S16"),
        ("ids_begin", "<u8"),
        ("ids_length", "<u4"),
        ("name_begin", "<u8"),
        ("name_length", "<u4"),
        ("source", "<u4"),
    ]
)
_BUFFERED = 1 << 15  # records


def order_key(seed: int, document_sha256: str, epoch: int) -> bytes:
    """Sort key of a copy of a document; `epoch` counts from 0."""
    return hashlib.sha256(f"{seed}\n{document_sha256}\n{epoch}".encode()).digest()


@dataclass(frozen=True, kw_only=True)
class OrderedDocument:
    """A document copy at its place in the training order. `ids` end with the separator."""

    source: int
    id: str
    ids: NDArray[Any]


class OrderFile:
    """Takes encoded documents in any order, gives them back in training order.

    Args:
        folder: an empty scratch folder.
        seed: of the corpus' document order.
        dtype: of the ids, `uint16` or `uint32`.
    """

    def __init__(self, folder: Path, seed: int, dtype: str) -> None:
        self._folder, self._seed, self._dtype = folder, seed, np.dtype(dtype).newbyteorder("<")
        self._ids = (folder / "ids").open("w+b")
        self._names = (folder / "names").open("w+b")
        self._ids_end = self._names_end = 0
        self._waiting: list[tuple[bytes, bytes, int, int, int, int, int]] = []
        self._spilled = False

    def add(self, source: int, name: str, document_sha256: str, ids: NDArray[Any], epochs: int) -> None:
        """Add a document with its ids (separator included), once for each epoch."""
        encoded = name.encode()
        tie = hashlib.sha256(encoded).digest()[:16]
        place = (self._ids_end, len(ids), self._names_end, len(encoded), source)
        self._ids.write(np.ascontiguousarray(ids, dtype=self._dtype).data)
        self._names.write(encoded)
        self._ids_end += len(ids)
        self._names_end += len(encoded)
        self._waiting += [(order_key(self._seed, document_sha256, e), tie, *place) for e in range(epochs)]
        if len(self._waiting) >= _BUFFERED:
            self._spill()

    def _spill(self) -> None:
        self._spilled = True
        records = np.array(self._waiting, dtype=_RECORD)
        self._waiting = []
        first = np.frombuffer(records["key"].tobytes(), dtype=np.uint8)[::32]
        records = records[np.argsort(first, kind="stable")]
        counts = np.bincount(first, minlength=256)
        ends = np.cumsum(counts)
        for bucket in np.flatnonzero(counts):
            with self._bucket(int(bucket)).open("ab") as file:
                file.write(records[ends[bucket] - counts[bucket] : ends[bucket]].tobytes())

    def _bucket(self, first_byte: int) -> Path:
        return self._folder / f"records_{first_byte:02x}"

    def ordered(self) -> Iterator[OrderedDocument]:
        """All copies in training order: by key, and by name where two documents are equal."""
        self._ids.flush()
        self._names.flush()
        itemsize = self._dtype.itemsize
        for records in self._buckets():
            for index in np.lexsort((records["tie"], records["key"])):
                record = records[index]
                ids_bytes = int(record["ids_length"]) * itemsize
                ids = os.pread(self._ids.fileno(), ids_bytes, int(record["ids_begin"]) * itemsize)
                name = os.pread(self._names.fileno(), int(record["name_length"]), int(record["name_begin"]))
                yield OrderedDocument(
                    source=int(record["source"]), id=name.decode(), ids=np.frombuffer(ids, dtype=self._dtype)
                )

    def _buckets(self) -> Iterator[NDArray[Any]]:
        """Records in pieces whose keys do not overlap, by key; one piece while they still fit into memory."""
        if not self._spilled:
            yield np.array(self._waiting, dtype=_RECORD)
            return
        self._spill()
        for path in sorted(self._folder.glob("records_*")):
            yield np.fromfile(path, dtype=_RECORD)

    def close(self) -> None:
        """Close the scratch files."""
        self._ids.close()
        self._names.close()
