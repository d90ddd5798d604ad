"""Whole files of a foreign release, fetched and compared with whatever their host states of them.

The Hub states the sha256 of large files and git's id of small ones; a plain server states a size, and perhaps an ETag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from open360.release.foreign_target import ForeignTarget
from open360.release.formats.fetching import PIECE_BYTES, fetched
from open360.release.formats.ranges import AddressRanges, DataFileError
from open360.release.hub_objects import git_id_of
from open360.release.order.spans import Span
from open360.release.remote_listing import at_once
from open360.release.targets import check_path
from open360.release.verified_files import fetch_files
from open360.schema.manifest import FileRecord
from open360.schema.names import MAX_FILE_BYTES

MAX_SMALL_BYTES = 64 << 20  # of a file that the Hub keeps in git

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class WholeFile:
    """A file to fetch: `path` is what the target calls it, or its address; `name` where it is put.

    `sha256` and `git_id` are what the Hub lists; both None at an address.
    """

    name: str
    path: str
    bytes: int
    sha256: str | None = None
    git_id: str | None = None

    @property
    def is_at_address(self) -> bool:
        """Whether it lies on a plain server."""
        return self.path.startswith(("http://", "https://"))


@dataclass(frozen=True, kw_only=True)
class FetchedWhole:
    """A file on this disk. `proof` says what its bytes were compared with, None: with its size alone."""

    file: WholeFile
    path: Path
    sha256: str
    proof: str | None


def listed_file(target: ForeignTarget, path: str, name: str) -> WholeFile:
    """A file of the listing. Raises MissingFileError; UnsafePathError or DataFileError for what no disk can hold."""
    listed, inside = target.locate(path)
    file = listed.files[inside]
    for one in (path, name):
        check_path(target.label, one)
    if file.bytes > MAX_FILE_BYTES:
        raise DataFileError(path, f"a file of at most {MAX_FILE_BYTES} bytes", f"a claim of {file.bytes}", "look at it")
    return WholeFile(name=name, path=path, bytes=file.bytes, sha256=file.sha256, git_id=file.git_id)


def fetch_whole(
    target: ForeignTarget,
    addresses: AddressRanges | None,
    files: Sequence[WholeFile],
    folder: Path,
    progress: Progress | None = None,
) -> list[FetchedWhole]:
    """Fetch files below `folder`; what the Hub's own client had fetched of large ones before is not fetched again.

    Raises:
        IntegrityError: other bytes came than were listed.
        TargetError, HubError, AddressError: a file cannot be had. OSError: this disk fails.
    """
    large = [file for file in files if file.sha256 is not None and file.bytes]
    small = [file for file in files if not file.is_at_address and (file.sha256 is None or not file.bytes)]
    far = [file for file in files if file.is_at_address]
    total, done = sum(file.bytes for file in files), 0

    def told(count: int, _: int, name: str) -> None:
        if progress is not None:
            progress(done + count, total, name.rsplit("/", 1)[-1])

    found: dict[str, FetchedWhole] = {}
    records = [FileRecord(path=file.path, bytes=file.bytes, sha256=file.sha256 or "") for file in large]
    have = fetch_files(target, records, folder / "large", told)
    for file in large:
        at = have[file.path]
        found[file.name] = FetchedWhole(file=file, path=at.path, sha256=at.digest.sha256, proof="sha256 of the Hub")
    done = sum(file.bytes for file in large)
    for number, (file, data) in enumerate(zip(small, at_once(lambda one: _small(target, one), small), strict=True)):
        at_path = folder / "small" / f"{number:05d}"
        at_path.parent.mkdir(parents=True, exist_ok=True)
        at_path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        found[file.name] = FetchedWhole(file=file, path=at_path, sha256=sha256, proof="git's id of the Hub")
        done += file.bytes
    for number, file in enumerate(far):
        assert addresses is not None  # noqa: S101
        at_path = folder / "far" / f"{number:05d}"
        sha256 = _far(addresses, file, at_path, told)
        found[file.name] = FetchedWhole(file=file, path=at_path, sha256=sha256, proof=None)
        done += file.bytes
    return [found[file.name] for file in files]


def _small(target: ForeignTarget, file: WholeFile) -> bytes:
    data = target.read(file.path, MAX_SMALL_BYTES)
    found = git_id_of(data)
    if file.git_id is not None and found != file.git_id and hashlib.sha256(data).hexdigest() != file.sha256:
        raise DataFileError(file.path, f"a file with git's id {file.git_id}", found, "pull again; tell its publisher")
    return data


def _far(addresses: AddressRanges, file: WholeFile, path: Path, told: Progress) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, done = hashlib.sha256(), 0
    with path.open("wb") as out:
        for data in fetched(addresses, _pieces(file)):
            out.write(data)
            digest.update(data)
            done += len(data)
            told(done, file.bytes, file.name)
    return digest.hexdigest()


def _pieces(file: WholeFile) -> Iterator[Span]:
    for begin in range(0, file.bytes, PIECE_BYTES):
        yield Span(file.path, begin, min(begin + PIECE_BYTES, file.bytes))
