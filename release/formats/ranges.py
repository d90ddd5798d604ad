"""Where data files lie: a folder, repositories on the Hub, plain addresses. Read by range, exactly or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from open360.release.evidence.address_answers import told
from open360.release.evidence.addresses import AddressError, Addresses, Gone, Pace, Progress, There
from open360.release.filling import Filling
from open360.release.foreign_target import ForeignTarget
from open360.release.targets import MissingFileError, UnsafePathError, check_path
from open360.schema.errors import IntegrityError

DATA_REQUESTS_A_SECOND = 200.0  # of a host; rules look at it ten times slower


class DataFileError(IntegrityError):
    """A data file is not what it is declared to be, or does not hold what was asked for."""


@dataclass(frozen=True, kw_only=True)
class FileIdentity:
    """What tells that a file is still the same: its size, and digests as far as somebody states them.

    `sha256` and `git_id` are the Hub's, `etag` is that of a plain server.
    """

    bytes: int
    sha256: str | None = None
    git_id: str | None = None
    etag: str | None = None


class Ranges(Protocol):
    """Files that are read by range. Safe for several threads.

    Every method may raise DataFileError, TargetError, HubError, AddressError, and OSError for files of this disk.
    """

    def identity(self, path: str) -> FileIdentity:
        """Size and digests of a file."""
        ...

    def read(self, path: str, begin: int, end: int) -> bytes | memoryview:
        """Bytes `[begin, end)` of a file: exactly these."""
        ...

    def give_up(self) -> None:
        """Let reads that only wait (for a quota) end with an error."""
        ...


def check_bounds(path: str, begin: int, end: int, size: int) -> None:
    """Raise DataFileError when bytes `[begin, end)` do not lie in a file of `size` bytes."""
    if not 0 <= begin <= end <= size:
        raise DataFileError(path, f"bytes {begin} to {end}", f"a file of {size} bytes", "see 'open360 validate'")


class FolderRanges:
    """Files below a folder of this disk. Links are followed: the caches of other clients are made of them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def identity(self, path: str) -> FileIdentity:
        """The size; nobody states a digest."""
        return FileIdentity(bytes=self._path(path).stat().st_size)

    def read(self, path: str, begin: int, end: int) -> bytes | memoryview:
        """Bytes `[begin, end)` of a file."""
        with self._path(path).open("rb", buffering=0) as file:
            check_bounds(path, begin, end, os.fstat(file.fileno()).st_size)
            data = Filling(end - begin)
            while data.missing and (came := os.preadv(file.fileno(), [data.data[data.filled :]], begin + data.filled)):
                data.filled += came
        if data.missing:
            raise DataFileError(
                path, f"bytes {begin} to {end}", f"{data.filled} of them", "the file was cut; look at it"
            )
        return data.data

    def give_up(self) -> None:
        """Nothing waits."""

    def _path(self, path: str) -> Path:
        real = self.root / check_path(str(self.root), path)
        if not real.is_file():
            raise MissingFileError(str(self.root), path, "check the folder")
        return real


class LocalFiles(FolderRanges):
    """Files of this disk by other names."""

    def __init__(self, paths: Mapping[str, Path]) -> None:
        super().__init__(Path())
        self._paths = paths

    def _path(self, path: str) -> Path:
        if path not in self._paths:
            raise MissingFileError("this disk", path)
        return self._paths[path]


class TargetRanges:
    """Files of the repositories of a foreign release, by the paths of its listing, each at its listed commit."""

    def __init__(self, target: ForeignTarget) -> None:
        self.target = target

    def identity(self, path: str) -> FileIdentity:
        """What the Hub lists."""
        listed, inside = self.target.locate(path)
        file = listed.files[inside]
        return FileIdentity(bytes=file.bytes, sha256=file.sha256, git_id=file.git_id)

    def read(self, path: str, begin: int, end: int) -> bytes | memoryview:
        """Bytes `[begin, end)` of a file; an answer of another file than the listed one is an error."""
        listed, inside = self.target.locate(path)
        file = listed.files[inside]
        check_bounds(path, begin, end, file.bytes)
        return self.target.survey.hub.read_buffer(listed.repo, listed.commit, inside, begin, end, file)

    def give_up(self) -> None:
        """Let calls that wait for the Hub's quota end."""
        self.target.survey.hub.pacer.give_up()


def data_addresses(progress: Progress | None = None, *, public_only: bool = True) -> Addresses:
    """Addresses as data is read from: at the pace of a download."""
    return Addresses(progress, public_only=public_only, pace=Pace(DATA_REQUESTS_A_SECOND))


class AddressRanges:
    """Files at plain http(s) addresses; their paths are the addresses.

    Args:
        sizes: bytes of files as they are known; a host that tells of another size is an error.
    """

    def __init__(self, addresses: Addresses, sizes: Mapping[str, int] | None = None) -> None:
        self.addresses = addresses
        self._sizes = sizes or {}

    def identity(self, path: str) -> FileIdentity:
        """What the host states. Raises AddressError when the file is not there, or its size is not stated."""
        self._expect(path)
        state = self.addresses.state(path)
        if isinstance(state, There) and state.bytes is not None:
            return FileIdentity(bytes=state.bytes, etag=self.addresses.etag(path))
        if isinstance(state, There):
            raise AddressError(path, "its host does not say how large it is")
        raise AddressError(path, told(state.status) if isinstance(state, Gone) else state.reason)

    def read(self, path: str, begin: int, end: int) -> bytes | memoryview:
        """Bytes `[begin, end)` of a file."""
        self._expect(path)
        return self.addresses.read_buffer(path, begin, end)

    def give_up(self) -> None:
        """Waits are short."""

    def _expect(self, path: str) -> None:
        if path in self._sizes:
            self.addresses.expect(path, self._sizes[path])


class MixedRanges:
    """Files of which some lie at addresses, and the others where `inner` has them. Paths may be other names.

    Args:
        paths: what a file is called here, by the name that the order uses; a name that is not in it is used as it is.
        suffixes: of files that lie beside them under the same names.
    """

    def __init__(
        self,
        inner: Ranges,
        addresses: AddressRanges,
        paths: Mapping[str, str] | None = None,
        suffixes: tuple[str, ...] = (),
    ) -> None:
        self._inner, self._addresses, self._paths, self._suffixes = inner, addresses, paths or {}, suffixes

    def identity(self, path: str) -> FileIdentity:
        """Size and digests of a file."""
        ranges, name = self._place(path)
        return ranges.identity(name)

    def read(self, path: str, begin: int, end: int) -> bytes | memoryview:
        """Bytes `[begin, end)` of a file."""
        ranges, name = self._place(path)
        return ranges.read(name, begin, end)

    def give_up(self) -> None:
        """Let reads that only wait end."""
        self._inner.give_up()

    def _place(self, path: str) -> tuple[Ranges, str]:
        name = self._paths.get(path, path)
        for suffix in self._suffixes:
            if path not in self._paths and path.endswith(suffix):
                beside = path.removesuffix(suffix)
                name = f"{self._paths.get(beside, beside)}{suffix}"
        return (self._addresses if name.startswith(("http://", "https://")) else self._inner), name


__all__ = [
    "AddressRanges", "DataFileError", "FileIdentity", "FolderRanges", "LocalFiles", "MissingFileError", "MixedRanges",
    "Ranges", "TargetRanges", "UnsafePathError", "check_bounds", "data_addresses",
]  # fmt: skip
