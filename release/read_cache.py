"""A cache on disk of small documents that were read at a commit, and so can never change.

Entries hold their own digest: one that is damaged is read again. A cache that cannot be written is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from open360.schema.atomic import write_bytes

MAX_ENTRY_BYTES = 64 << 20
DIGEST_CHARS = 64


def cache_folder() -> Path:
    """Where open360 keeps what it can fetch again: OPEN360_CACHE, else the user's cache folder."""
    told = os.environ.get("OPEN360_CACHE")
    if told:
        return Path(told)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "open360"


class ReadCache:
    """Bytes by what they were read from. `folder` is the user's cache folder when None."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder if folder is not None else cache_folder()) / "reads"

    def get(self, key: tuple[str, ...], read: Callable[[], bytes]) -> bytes:
        """What `read` returns, from the cache when it is there."""
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()
        path = self.folder / name[:2] / name
        known = _load(path)
        if known is not None:
            return known
        data = read()
        if len(data) <= MAX_ENTRY_BYTES:
            with contextlib.suppress(OSError):
                write_bytes(path, hashlib.sha256(data).hexdigest().encode() + data)
        return data


def _load(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            entry = file.read(MAX_ENTRY_BYTES + DIGEST_CHARS + 1)
    except OSError:
        return None
    digest, data = entry[:DIGEST_CHARS], entry[DIGEST_CHARS:]
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None
