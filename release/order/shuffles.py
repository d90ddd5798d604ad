"""Orders that follow from a seed, as the trainers computed them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 1 << 27  # half a GiB of indices


def pcg64_shuffle(rows: int, seed: int, epoch: int) -> NDArray[np.uint32]:
    """The order of an epoch as OLMo shuffles it: `PCG64(seed + epoch)` over the numbers of all rows.

    NumPy does not promise the stream of a `Generator` for ever: golden batches tell whether it is still the same.
    Source: olmo/data/iterable_dataset.py, olmo_core/data/data_loader.py.
    """
    if rows > MAX_ROWS:
        raise ValueError(f"expected at most {MAX_ROWS} rows, found {rows}")
    order = np.arange(rows, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed + epoch)).shuffle(order)
    return order
