"""Arrays of whole numbers in files that may be far away, such as orders: only the asked part is read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.fetching import fetched
from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.order.npy_header import HEAD_BYTES, has_npy_header, parse_npy_header
from open360.release.order.spans import Span

MAX_ENTRIES_READ = 1 << 24
GAP_BYTES = 4096


class FarArray:
    """Entries of one type from byte `begin` of a file on, read when they are asked for (an `IndexArray`).

    Args:
        shape: its first part is the number of entries; the rest is the shape of each.
    """

    def __init__(
        self, ranges: Ranges, path: str, *, dtype: np.dtype[np.integer], begin: int, shape: tuple[int, ...]
    ) -> None:
        self.ranges, self.path, self.dtype, self.begin, self.shape = ranges, path, dtype, begin, shape
        self._entry = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize

    @classmethod
    def of_file(cls, ranges: Ranges, path: str, dtype: np.dtype[np.integer] | None = None) -> FarArray:
        """A real NumPy file, or raw entries of type `dtype`. Raises OrderError, DataFileError."""
        size = ranges.identity(path).bytes
        head = bytes(ranges.read(path, 0, min(size, HEAD_BYTES)))
        if has_npy_header(head) or dtype is None:
            layout = parse_npy_header(path, head, size)
            return cls(ranges, path, dtype=layout.dtype, begin=layout.begin, shape=layout.shape)
        return cls(ranges, path, dtype=dtype, begin=0, shape=(size // dtype.itemsize,))

    def __len__(self) -> int:
        """Entries."""
        return self.shape[0]

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        """A slice of step 1, or the entries at some places. At most `MAX_ENTRIES_READ`."""
        if isinstance(key, slice):
            first, end, step = key.indices(len(self))
            if step != 1:
                raise ValueError("only slices of neighbours are read")
            spans, count = [self._span(first, max(first, end))], max(end - first, 0)
        else:
            places = np.asarray(key, dtype=np.int64)
            if places.size and (int(places.min()) < 0 or int(places.max()) >= len(self)):
                found = f"entry {int(places.min()) if int(places.min()) < 0 else int(places.max())}"
                raise DataFileError(self.path, f"an entry of {len(self)}", found, "see 'open360 validate'")
            spans, count = [self._span(place, place + 1) for place in places.tolist()], int(places.size)
        if count > MAX_ENTRIES_READ:
            raise ValueError(f"expected at most {MAX_ENTRIES_READ} entries at a time, found {count}")
        data = b"".join(fetched(self.ranges, [span for span in spans if span.begin < span.end], gap=GAP_BYTES))
        return np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])

    def _span(self, first: int, end: int) -> Span:
        return Span(self.path, self.begin + first * self._entry, self.begin + end * self._entry)
