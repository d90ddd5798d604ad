"""Reads archives of others without trusting them: nothing is extracted to disk, no link is followed, all is bounded.

Members come in the order of the archive, with paths relative to its top folder where it has one (as source
distributions do).
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from open360.release.corpus.document_file import MAX_DOCUMENT_BYTES
from open360.schema.errors import Open360Error

MAX_MEMBERS = 2_000_000
MIN_UNPACKED_LIMIT = 1 << 30
PIECE = 1 << 16
MAX_RATIO = 100  # unpacked to packed bytes; text archives reach about 20

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)


class ArchiveError(Open360Error):
    """An archive is broken, or claims or holds what no honest archive of text does."""

    def __init__(self, archive: str, problem: str) -> None:
        self.archive, self.problem = archive, problem
        super().__init__(f"{archive}: {problem}; look at the archive before you use it, or drop this source")


@dataclass(frozen=True, kw_only=True)
class Member:
    """An entry of an archive. `read` gives the bytes of a regular file, at most `size` of them."""

    path: str
    size: int
    is_file: bool
    is_folder: bool
    read: Callable[[], bytes]


class _BoundedReader(io.RawIOBase):
    """A forward-only view of a decompressor that stops at `limit` bytes and refuses huge single reads."""

    def __init__(self, archive: str, raw: BinaryIO, limit: int) -> None:
        self._archive, self._raw, self._limit, self._at = archive, raw, limit, 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_DOCUMENT_BYTES:
            raise ArchiveError(self._archive, f"a header claims {size} bytes, expected at most {MAX_DOCUMENT_BYTES}")
        data = self._raw.read(size)
        self._at += len(data)
        if self._at > self._limit:
            raise ArchiveError(self._archive, f"it unpacks to more than {self._limit} bytes")
        return data

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._at:
            raise ArchiveError(self._archive, "it can be read forwards only, but points backwards")
        while self._at < offset and self.read(min(offset - self._at, PIECE)):
            pass
        return self._at


def _decompressor(file: BinaryIO) -> BinaryIO | None:
    """The tar stream inside a file, by its first bytes; None when it is no tar."""
    head = file.read(262 + 3)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if head.startswith(b"BZh"):
        return cast("BinaryIO", bz2.BZ2File(file))
    if head.startswith(b"\xfd7zXZ\x00"):
        return cast("BinaryIO", lzma.LZMAFile(file))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("BinaryIO", zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True))
    return file if head[257:262] == b"ustar" else None


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or a (compressed) tar, going by its first bytes."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return True
        file.seek(0)
        return _decompressor(file) is not None


@contextlib.contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        raise ArchiveError(path.name, f"it cannot be read ({error or type(error).__name__})") from error


def read_members(path: Path) -> Iterator[Member]:
    """Entries of an archive in its own order. Raises ArchiveError, and so does reading an entry."""
    with _one_error(path), path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        for count, member in enumerate(_zip_members(path, file) if is_zip else _tar_members(path, file)):
            if count >= MAX_MEMBERS:
                raise ArchiveError(path.name, f"it has more than {MAX_MEMBERS} entries")
            if member.path.startswith("/") or "\\" in member.path or ".." in member.path.split("/"):
                raise ArchiveError(path.name, f"the entry '{member.path[:200]}' leaves the archive's folder")
            yield member


def _tar_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    stream = _decompressor(file)
    if stream is None:
        raise ArchiveError(path.name, "it is neither a zip nor a tar")
    limit = max(MIN_UNPACKED_LIMIT, MAX_RATIO * path.stat().st_size)
    reader = _BoundedReader(path.name, stream, limit)
    with tarfile.TarFile(fileobj=cast("BinaryIO", reader), mode="r") as archive:
        while (entry := archive.next()) is not None:
            # The list of all entries would grow with the archive.
            vars(archive)["members"] = []
            name = entry.name.removeprefix("./").rstrip("/")

            def read(entry: tarfile.TarInfo = entry) -> bytes:
                with _one_error(path):
                    content = archive.extractfile(entry)
                    return content.read(entry.size) if content is not None else b""

            yield Member(path=name, size=entry.size, is_file=entry.isreg(), is_folder=entry.isdir(), read=read)
        # Checksums of a compressed stream come last, behind the end of the tar.
        while reader.read(PIECE):
            pass


def _zip_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            mode = entry.external_attr >> 16
            plain = not mode or stat.S_IFMT(mode) in (0, stat.S_IFREG)

            def read(entry: zipfile.ZipInfo = entry) -> bytes:
                with _one_error(path), archive.open(entry) as content:
                    return content.read(entry.file_size)

            yield Member(
                path=entry.filename.removeprefix("./").rstrip("/"),
                size=entry.file_size,
                is_file=plain and not entry.is_dir(),
                is_folder=entry.is_dir(),
                read=read,
            )


def top_folder(path: Path) -> str | None:
    """The folder that holds everything in an archive; None when there is no such folder. Raises ArchiveError."""
    top: str | None = None
    for member in read_members(path):
        first, _, below = member.path.partition("/")
        if first in ("", ".") or (first.startswith("pax_global_header") and not below):
            continue
        if (top is not None and first != top) or (not below and not member.is_folder):
            return None
        top = first
    return top
