"""A cache on disk of small documents that were read at a commit, and so can never change.

Entries hold their own digest: one that is damaged is read again. A cache that cannot be written is none. Several
processes may use one: an entry appears whole under its name, or not at all; it is not synced, since half of one is
found out. What was not used for longest goes first when there is too much.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

MAX_ENTRY_BYTES = 64 << 20
MAX_CACHE_BYTES = 2 << 30
DIGEST_BYTES = 32
TOUCHED_AFTER = 24 * 3600  # seconds; an entry that is used is marked as such once a day
LEFT_OVER_AFTER = 3600  # seconds after which an unfinished entry is one of a process that was killed


def cache_folder() -> Path:
    """Where open360 keeps what it can fetch again: OPEN360_CACHE, else the user's cache folder."""
    told = os.environ.get("OPEN360_CACHE")
    if told:
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open360"


class ReadCache:
    """Bytes by what they were read from. Safe for several threads. `folder` is the user's cache folder when None.

    It holds at most `max_bytes`, and a sixteenth more while a process writes.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self.folder = (folder if folder is not None else cache_folder()) / "reads"
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._until_pruned = 0  # bytes; the first entry that is kept makes room for all that others have left

    def find(self, key: tuple[str, ...]) -> bytes | None:
        """The bytes kept under a key, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                used = os.fstat(file.fileno()).st_mtime
                entry = file.read(MAX_ENTRY_BYTES + DIGEST_BYTES + 1)
        except OSError:
            return None
        digest, data = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            return None
        if time.time() - used > TOUCHED_AFTER:
            with contextlib.suppress(OSError):
                os.utime(path)
        return data

    def has(self, key: tuple[str, ...]) -> bool:
        """Whether something is kept under a key; it may turn out to be damaged."""
        return self._path(key).exists()

    def keep(self, key: tuple[str, ...], data: bytes) -> None:
        """Keep bytes under a key. Only what has been verified, or read and understood, belongs here."""
        if len(data) > min(MAX_ENTRY_BYTES, self._max_bytes):
            return
        with contextlib.suppress(OSError):
            _write(self._path(key), hashlib.sha256(data).digest() + data)
        with self._lock:
            self._until_pruned -= len(data)
            due = self._until_pruned <= 0
            if due:
                self._until_pruned = self._max_bytes // 16
        if due:
            self.prune()

    def prune(self) -> None:
        """Remove what was not used for longest until the rest fits, and what killed processes have left."""
        entries = sorted(self._entries(), reverse=True)
        left = self._max_bytes
        for _, size, path in entries:
            left -= size
            if left < 0:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """When each was used, its size and its path."""
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.suffix != ".partial":
                    yield status.st_mtime, status.st_size, path
                elif time.time() - status.st_mtime > LEFT_OVER_AFTER:
                    path.unlink()

    def _path(self, key: tuple[str, ...]) -> Path:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()
        return self.folder / name[:2] / name


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".partial", dir=path.parent, delete=False) as file:
        partial = Path(file.name)
        try:
            file.write(data)
            file.flush()
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
