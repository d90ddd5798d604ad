"""The order of rows inside the chunks of a trainer that shuffles each anew, from where it was last started (Amber).

A process seeds NumPy's global generator once, at its start, and draws a permutation for each chunk that it loads: the
order of a chunk depends on how many were loaded before it since then. Which starts there were was not published for
Amber, so its spec calls the order unknown; who knows, or guesses, a start can resolve with it (`OrderInputs.within`).
`RandomState`, unlike `Generator`, keeps its stream over versions of NumPy.
Source: amber-train main.py, main_utils.py (load_jsonl_examples).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def permutation_since_start(seed: int, chunk: int, rows: int) -> NDArray[np.int64]:
    """The order of the `chunk`-th chunk (0-based) that a process loads which has seeded NumPy with `seed`.

    The global batch *t* of B rows holds entries `[t * B, (t + 1) * B)`, whatever the number of ranks: rank *r* of *w*
    takes every *w*-th entry from *r* on.
    """
    state = np.random.RandomState(seed)
    for _ in range(chunk):
        state.permutation(rows)
    return state.permutation(rows)


def within_chunks(starts: Sequence[int], seed: int, rows: int) -> Callable[[int], NDArray[np.int64]]:
    """The order inside the *n*-th chunk trained, when processes were started with the chunks `starts` (0 is one).

    A process that starts with chunk *s* seeds with `seed + s`.
    """
    known = sorted({0, *starts})

    def within(chunk: int) -> NDArray[np.int64]:
        start = max(first for first in known if first <= chunk)
        return permutation_since_start(seed + start, chunk - start, rows)

    return within
