"""A file of digests that were computed before, so that unchanged files are not read again.

One JSON line a file, appended as soon as it is known (a killed run keeps what it did), with a check of the line
itself. It lies outside what is published. A line counts only for the same inode and change time, which nobody who
hands out an archive of a release can foresee.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from open360.schema.atomic import write_bytes

CACHE_PATH = ".scratch/hashes.jsonl"
MAX_CACHE_BYTES = 256 << 20
SETTLING_NS = 2_000_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")

Identity = tuple[int, int, int, int]


def identity_of(status: os.stat_result) -> Identity:
    """Size, modification time, inode and change time: what changes when a file changes."""
    return (status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def _line(path: str, identity: Identity, sha256: str, tensors: str | None) -> bytes:
    entry = json.dumps([path, *identity, sha256, tensors])
    return f"{_check(entry)} {entry}\n".encode()


def _check(entry: str) -> str:
    return hashlib.sha256(entry.encode()).hexdigest()[:16]


class HashCache:
    """Digests by file. Safe for threads; every method works when the file is missing, damaged or not writable."""

    def __init__(self, file: Path, root: Path, clock: Callable[[], int] = time.time_ns) -> None:
        """`root`: paths below it are kept relative to it, so that a moved folder keeps its cache."""
        self.file, self.root, self.clock = file, root, clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[Identity, str, str | None]] = {}
        self._load()

    def find(self, path: Path, status: os.stat_result) -> tuple[str, str | None] | None:
        """`(sha256, tensors digest)` of a file that has not changed since it was kept."""
        identity, sha256, tensors = self._entries.get(self._key(path), ((0, 0, 0, 0), "", None))
        return (sha256, tensors) if sha256 and identity == identity_of(status) and self._settled(status) else None

    def keep(self, path: Path, status: os.stat_result, sha256: str, tensors: str | None) -> None:
        """Remember the digests of a file, unless it changed too recently to be sure."""
        if not self._settled(status):
            return
        key, identity = self._key(path), identity_of(status)
        with self._lock:
            self._entries[key] = (identity, sha256, tensors)
            self._append(_line(key, identity, sha256, tensors))

    def _settled(self, status: os.stat_result) -> bool:
        return self.clock() - max(status.st_mtime_ns, status.st_ctime_ns) >= SETTLING_NS

    def _key(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def _append(self, line: bytes) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError:
            return
        try:
            os.write(handle, line)
        except OSError:
            return
        finally:
            os.close(handle)

    def _load(self) -> None:
        try:
            if self.file.is_symlink() or self.file.stat().st_size > MAX_CACHE_BYTES:
                return
            lines = self.file.read_bytes().splitlines()
        except OSError:
            return
        for line in lines:
            entry = _parse(line)
            if entry is not None:
                self._entries[entry[0]] = entry[1:]
        if len(lines) > 2 * len(self._entries) + 1000:
            self._compact()

    def _compact(self) -> None:
        text = b"".join(_line(path, *entry) for path, entry in sorted(self._entries.items()))
        try:
            write_bytes(self.file, text)
        except OSError:
            return


def _parse(line: bytes) -> tuple[str, Identity, str, str | None] | None:
    """An entry of the cache, or None for a line that is damaged."""
    check, _, text = line.decode("utf-8", "replace").partition(" ")
    if check != _check(text):
        return None
    try:
        path, size, modified, inode, changed, sha256, tensors = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    digests = (sha256,) if tensors is None else (sha256, tensors)
    if not all(isinstance(digest, str) and _SHA256.fullmatch(digest) for digest in digests):
        return None
    return path, (size, modified, inode, changed), sha256, tensors
