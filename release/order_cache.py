"""Shuffled orders, made once and kept on disk: 4 bytes a row, mapped into memory when they are used again.

An entry is named by all that it follows from, NumPy's version included, and appears whole or not at all. What was not
used for longest goes first when there is too much. The 951 million rows of OLMo-7B take 3.8 GB, and a minute or two.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open360.release.order.row_orders import KeptShuffles
from open360.release.order.shuffles import shuffle_in_place, shuffled
from open360.release.read_cache import cache_folder
from open360.schema.atomic import replacing_file

MAX_CACHE_BYTES = 32 << 30
SMALL_ROWS = 1 << 24  # 64 MiB, shuffled in half a second: not worth a file
BLOCK_ROWS = 1 << 22
LEFT_OVER_AFTER = 24 * 3600  # seconds after which an unfinished order is one of a process that was killed


class CachedShuffles:
    """A `Shuffle` that keeps large orders in `folder` (the user's cache when None), at most `max_bytes` of them.

    An order of up to `memory` bytes (half of the machine's when None) is shuffled in memory and written, a larger one
    in its file, which is several times slower. A folder that cannot be written is no cache: then it is made in memory.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        max_bytes: int = MAX_CACHE_BYTES,
        small_rows: int = SMALL_ROWS,
        memory: int | None = None,
    ) -> None:
        self.folder = (folder if folder is not None else cache_folder()) / "orders"
        self._max_bytes, self._small_rows = max_bytes, small_rows
        self._memory = memory if memory is not None else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        self._in_memory = KeptShuffles()

    def __call__(self, rows: int, seed: int) -> NDArray[np.uint32]:
        """The shuffled numbers `0 … rows - 1`, not to be written to."""
        if rows <= self._small_rows or 4 * rows > self._max_bytes:
            return self._in_memory(rows, seed)
        path = self.path(rows, seed)
        with contextlib.suppress(OSError, ValueError):
            if not _is_whole(path, rows):
                self._make(path, rows, seed)
            with contextlib.suppress(OSError):
                os.utime(path)
            return np.asarray(np.memmap(path, dtype="<u4", mode="r", shape=(rows,))).view(np.ndarray)
        return self._in_memory(rows, seed)

    def path(self, rows: int, seed: int) -> Path:
        """Where an order is kept."""
        return self.folder / f"pcg64_rows{rows}_seed{seed}_numpy{np.__version__}.u32"

    def _make(self, path: Path, rows: int, seed: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(4 * rows)
        with replacing_file(path) as partial:
            with partial.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, 4 * rows)  # a full disk is an error here, not a signal later
            if 4 * rows <= self._memory:
                with partial.open("r+b") as file:
                    shuffled(rows, seed).astype("<u4", copy=False).tofile(file)
            else:
                mapped = np.memmap(partial, dtype="<u4", mode="r+", shape=(rows,))
                _shuffle_mapped(np.asarray(mapped).view(np.ndarray), seed)
                mapped.flush()

    def _make_room(self, wanted: int) -> None:
        for path in self.folder.glob(".*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFT_OVER_AFTER:
                    path.unlink()
        known = []
        for path in self.folder.glob("*.u32"):
            with contextlib.suppress(OSError):
                status = path.stat()
                known.append((status.st_mtime, status.st_size, path))
        left = self._max_bytes - wanted
        for _, size, path in sorted(known, reverse=True):
            left -= size
            if left < 0:
                with contextlib.suppress(OSError):
                    path.unlink()


def _shuffle_mapped(order: NDArray[np.uint32], seed: int) -> None:
    for begin in range(0, len(order), BLOCK_ROWS):
        end = min(begin + BLOCK_ROWS, len(order))
        order[begin:end] = np.arange(begin, end, dtype=np.uint32)
    shuffle_in_place(order, seed)


def _is_whole(path: Path, rows: int) -> bool:
    return path.is_file() and path.stat().st_size == 4 * rows
