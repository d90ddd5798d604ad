"""Orders of the rows of an epoch: as stored, shuffled by a seed, by a stored index array, or chunk by chunk.

Memory: none for rows as stored. A shuffle takes 4 bytes for each row (or group of rows) of an epoch, so 3.8 GB for the
951 million rows of OLMo-7B; what keeps it is handed in (`Shuffle`). An index array may lie in memory, on disk or far
away: only the asked part of it is read, and all of it, block by block, to find a row in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from open360.release.order.shuffles import shuffled
from open360.release.order.spans import OrderError

MAX_ROWS = (1 << 32) - 1
MAX_KEPT_BYTES = 512 << 20
BLOCK_ENTRIES = 1 << 20

Numbers = range | NDArray[np.int64]
Shuffle = Callable[[int, int], NDArray[np.uint32]]
"""`(rows, seed)` to the shuffled numbers of the rows. The rows of an epoch are shuffled by its own seed."""


class IndexArray(Protocol):
    """An array of whole numbers, wherever it lies: NumPy's own, mapped from disk, or read in parts from afar."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any:
        """The entries of a slice, or at the places of an array of whole numbers."""
        ...


class RowOrder(Protocol):
    """The order of the rows of each epoch. `rows` of them have a place in an epoch."""

    @property
    def rows(self) -> int: ...

    def numbers(self, epoch: int, begin: int, end: int) -> Numbers:
        """The stored rows at places `[begin, end)` of an epoch. Raises OrderError."""
        ...

    def places(self, epoch: int, numbers: Sequence[int]) -> list[int]:
        """Where some stored rows stand in an epoch, in increasing order; those that it leaves out do not."""
        ...


@dataclass(frozen=True)
class StoredOrder:
    """Rows in the order in which they are stored, once."""

    rows: int

    def numbers(self, epoch: int, begin: int, end: int) -> Numbers:
        """The places themselves."""
        if epoch or end > self.rows:
            raise OrderError(f"row {end - 1} of the order", f"{self.rows} rows are stored")
        return range(begin, end)

    def places(self, epoch: int, numbers: Sequence[int]) -> list[int]:
        """The numbers themselves."""
        return [] if epoch else sorted(number for number in numbers if 0 <= number < self.rows)


class KeptShuffles:
    """`PCG64(seed)` over the numbers of the rows, the last ones kept in memory (`MAX_KEPT_BYTES`, or the last alone).

    NumPy does not promise the stream of a `Generator` for ever: golden batches tell whether it is still the same.
    Source: olmo/data/iterable_dataset.py, olmo_core/data/data_loader.py.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], NDArray[np.uint32]] = {}

    def __call__(self, rows: int, seed: int) -> NDArray[np.uint32]:
        """The shuffled numbers `0 … rows - 1`."""
        found = self._kept.pop((rows, seed), None)
        if found is None:
            while self._kept and sum(order.nbytes for order in self._kept.values()) + 4 * rows > MAX_KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
            found = shuffled(rows, seed)
            found.flags.writeable = False
        self._kept[rows, seed] = found
        return found


@dataclass(frozen=True, kw_only=True)
class ShuffledOrder:
    """`PCG64(seed + epoch)` over the numbers of all rows.

    With `group` > 1 the numbers of groups of so many neighbouring rows are shuffled instead, and rows stay together in
    their group (OLMo-core's chunks); rows at the end that fill no group are left out.
    """

    stored: int
    seed: int
    epoch_base: int
    group: int
    shuffle: Shuffle

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return self.stored // self.group * self.group

    def _order(self, epoch: int) -> NDArray[np.uint32]:
        return self.shuffle(self.stored // self.group, self.seed + self.epoch_base + epoch)

    def numbers(self, epoch: int, begin: int, end: int) -> Numbers:
        """The shuffled numbers."""
        if end > self.rows:
            raise OrderError(f"row {end - 1} of an epoch", f"an epoch has {self.rows} rows")
        places = np.arange(begin, end, dtype=np.int64)
        groups = self._order(epoch)[begin // self.group : -(-end // self.group)].astype(np.int64)
        if self.group == 1:
            return groups
        return groups[places // self.group - begin // self.group] * self.group + places % self.group

    def places(self, epoch: int, numbers: Sequence[int]) -> list[int]:
        """Found by looking through the order."""
        groups = sorted({number // self.group for number in numbers if 0 <= number < self.rows})
        where = {group: place for place, group in _find(self._order(epoch), groups)} if groups else {}
        return sorted(where[n // self.group] * self.group + n % self.group for n in numbers if 0 <= n < self.rows)


class IndexedOrder:
    """Stored index arrays, one for each epoch that is known, of one length. Raises OrderError.

    Args:
        stored: rows that the entries may point to.
    """

    def __init__(self, name: str, arrays: Sequence[IndexArray], *, stored: int) -> None:
        self.name, self.stored, self._arrays = name, stored, list(arrays)
        lengths = {len(array) for array in self._arrays}
        if len(lengths) != 1:
            raise OrderError(name, f"expected index arrays of one length, found {sorted(lengths)}")
        self.rows = lengths.pop()

    def numbers(self, epoch: int, begin: int, end: int) -> Numbers:
        """The entries, each looked at: none may point beyond the data."""
        if end > self.rows:
            raise OrderError(self.name, f"place {end - 1} is asked for, it has {self.rows} entries")
        block = np.asarray(self._array(epoch)[begin:end])
        if block.shape != (end - begin,) or block.dtype.kind not in "iu":
            raise OrderError(self.name, f"expected {end - begin} whole numbers, found {block.dtype} {block.shape}")
        wrong = np.flatnonzero((block < 0) | (block >= self.stored))
        if wrong.size:
            entry, at = int(block[wrong[0]]), begin + int(wrong[0])
            raise OrderError(self.name, f"entry {at} points to row {entry}, the data hold {self.stored} rows")
        return block.astype(np.int64)

    def places(self, epoch: int, numbers: Sequence[int]) -> list[int]:
        """Found by looking through the array."""
        return sorted(place for place, _ in _find(self._array(epoch), sorted(set(numbers))))

    def _array(self, epoch: int) -> IndexArray:
        if epoch >= len(self._arrays):
            raise OrderError(self.name, f"it holds {len(self._arrays)} epoch(s), batches of a later one are asked for")
        return self._arrays[epoch]


@dataclass(frozen=True, kw_only=True)
class ChunkedOrder:
    """Chunk after chunk, `used` rows of the `stored` rows of each, in an order of its own.

    `within` gives the order of the rows of the *n*-th chunk trained; in the order of the file without it.
    """

    chunks: int
    stored: int
    used: int
    within: Callable[[int], NDArray[Any]] | None = None

    @property
    def rows(self) -> int:
        """Rows trained on."""
        return self.chunks * self.used

    def numbers(self, epoch: int, begin: int, end: int) -> Numbers:
        """Numbers of rows, counting all stored rows of the chunks in the order of training."""
        if epoch or end > self.rows:
            raise OrderError(f"row {end - 1} of the order", f"{self.chunks} chunks of {self.used} rows are trained on")
        if self.within is None and self.used == self.stored:
            return range(begin, end)
        parts = []
        for chunk in range(begin // self.used, -(-end // self.used)):
            first, stop = max(begin - chunk * self.used, 0), min(end - chunk * self.used, self.used)
            rows = np.arange(first, stop) if self.within is None else self._within(chunk)[first:stop]
            parts.append(rows.astype(np.int64) + chunk * self.stored)
        return np.concatenate(parts) if parts else range(0)

    def places(self, epoch: int, numbers: Sequence[int]) -> list[int]:
        """Where some rows stand; rows that their chunk does not use stand nowhere."""
        found = []
        for number in numbers if not epoch else ():
            chunk, row = divmod(number, self.stored)
            if not 0 <= chunk < self.chunks:
                continue
            places = [row] if self.within is None else np.flatnonzero(self._within(chunk) == row).tolist()
            found += [chunk * self.used + place for place in places if place < self.used]
        return sorted(found)

    def _within(self, chunk: int) -> NDArray[Any]:
        assert self.within is not None  # noqa: S101
        order = self.within(chunk)
        if order.shape != (self.stored,) or (order.size and not 0 <= order.min() <= order.max() < self.stored):
            raise OrderError(f"the order inside chunk {chunk}", f"expected numbers of {self.stored} rows")
        return order


def _find(array: IndexArray, wanted: Sequence[int]) -> list[tuple[int, int]]:
    """`(place, number)` of every entry that is one of the wanted numbers, which are sorted."""
    numbers = np.array(wanted, dtype=np.int64)
    found: list[tuple[int, int]] = []
    for begin in range(0, len(array), BLOCK_ENTRIES):
        block = np.asarray(array[begin : begin + BLOCK_ENTRIES])
        if len(wanted) == 1:
            at = np.flatnonzero(block == wanted[0])
        else:
            near = np.minimum(np.searchsorted(numbers, block), len(wanted) - 1)
            at = np.flatnonzero(numbers[near] == block)
        found += [(begin + place, int(block[place])) for place in at.tolist()]
    return found
