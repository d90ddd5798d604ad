"""Counts ids while rows are read anyway: how many, the highest, and how often each of a few watched ones occurs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class IdTally:
    """Takes ids in pieces of any size and type."""

    def __init__(self, watched: Iterable[int] = ()) -> None:
        self.ids = 0
        self.highest = -1
        self.seen = dict.fromkeys(watched, 0)

    def add(self, ids: NDArray[Any]) -> None:
        """Take further ids."""
        if not ids.size:
            return
        self.ids += ids.size
        self.highest = max(self.highest, int(ids.max()))
        for watched in self.seen:
            self.seen[watched] += int(np.count_nonzero(ids == watched))

    def take_over(self, other: IdTally) -> None:
        """Take all that `other` has taken."""
        self.ids += other.ids
        self.highest = max(self.highest, other.highest)
        for watched, times in other.seen.items():
            self.seen[watched] = self.seen.get(watched, 0) + times
