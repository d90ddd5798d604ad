"""Is an index array a permutation? Looked at block by block, with one bit of memory an entry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ENTRIES = 1 << 32  # half a GiB of bits


class PermutationCheck:
    """Takes the entries of an index array in blocks of any size, and counts what keeps it from being a permutation.

    Args:
        entries: how many there are; a permutation holds each of 0 … entries - 1 once.
    """

    def __init__(self, entries: int) -> None:
        if not 0 <= entries <= MAX_ENTRIES:
            raise ValueError(f"expected at most {MAX_ENTRIES} entries, found {entries}")
        self.entries = entries
        self.taken = 0
        self.zeros = 0
        self.repeated = 0
        self.highest = -1
        self.beyond = 0
        self._seen = np.zeros((entries + 7) // 8, dtype=np.uint8)

    def add(self, block: NDArray[Any]) -> None:
        """Take the next entries, none below 0."""
        if not block.size:
            return
        self.taken += block.size
        self.zeros += int(np.count_nonzero(block == 0))
        self.highest = max(self.highest, int(block.max()))
        inside = block[block < self.entries]
        self.beyond += block.size - inside.size
        new = np.unique(inside)
        self.repeated += inside.size - new.size
        bits = np.left_shift(1, new & 7).astype(np.uint8)
        at = (new >> 3).astype(np.int64)
        known = (self._seen[at] & bits) != 0
        self.repeated += int(np.count_nonzero(known))
        if at.size:  # `at` is sorted: bits of one byte are neighbours
            firsts = np.flatnonzero(np.diff(at, prepend=-1))
            self._seen[at[firsts]] |= np.bitwise_or.reduceat(bits, firsts)

    @property
    def is_permutation(self) -> bool:
        """Whether every number below `entries` was taken once, and nothing else."""
        return self.taken == self.entries and not self.repeated and not self.beyond
