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
    return shuffled(rows, seed + epoch)


def shuffled(rows: int, seed: int) -> NDArray[np.uint32]:
    """The numbers `0 … rows - 1`, shuffled."""
    order = np.arange(rows, dtype=np.uint32)
    shuffle_in_place(order, seed)
    return order


def shuffle_in_place(order: NDArray[np.uint32], seed: int) -> None:
    """Shuffle as OLMo's loaders do. A plain array is needed: NumPy is many times slower on others."""
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
