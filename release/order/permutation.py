"""Is an index array a permutation? Looked at block by block, with one bit of memory for each number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ENTRIES = 1 << 32  # half a GiB of bits


class PermutationCheck:
    """Takes the entries of an index array in blocks of any size, and counts what keeps it from being a permutation.

    Args:
        limit: an order of so many rows holds each of 0 … limit - 1 once; a last batch may be left out.
    """

    def __init__(self, limit: int) -> None:
        if not 0 <= limit <= MAX_ENTRIES:
            raise ValueError(f"expected at most {MAX_ENTRIES} entries, found {limit}")
        self.limit = limit
        self.taken = 0
        self.zeros = 0
        self.repeated = 0
        self.highest = -1
        self.beyond = 0
        self._seen = np.zeros((limit + 7) // 8, dtype=np.uint8)

    def add(self, block: NDArray[Any]) -> None:
        """Take the next entries, none below 0."""
        if not block.size:
            return
        self.taken += block.size
        self.zeros += int(np.count_nonzero(block == 0))
        self.highest = max(self.highest, int(block.max()))
        inside = block[block < self.limit]
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
    def is_sound(self) -> bool:
        """Whether no number was taken twice and none beyond the limit."""
        return not self.repeated and not self.beyond
