"""A cache on disk of small documents that were read at a commit, and so can never change.

Entries hold their own digest: one that is damaged is read again. A cache that cannot be written is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
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

    def find(self, key: tuple[str, ...]) -> bytes | None:
        """The bytes kept under a key, or None."""
        try:
            with self._path(key).open("rb") as file:
                entry = file.read(MAX_ENTRY_BYTES + DIGEST_CHARS + 1)
        except OSError:
            return None
        digest, data = entry[:DIGEST_CHARS], entry[DIGEST_CHARS:]
        return data if hashlib.sha256(data).hexdigest().encode() == digest else None

    def keep(self, key: tuple[str, ...], data: bytes) -> None:
        """Keep bytes under a key. Only what has been verified, or read and understood, belongs here."""
        if len(data) <= MAX_ENTRY_BYTES:
            with contextlib.suppress(OSError):
                write_bytes(self._path(key), hashlib.sha256(data).hexdigest().encode() + data)

    def _path(self, key: tuple[str, ...]) -> Path:
        name = hashlib.sha256("\n".join(key).encode()).hexdigest()
        return self.folder / name[:2] / name
