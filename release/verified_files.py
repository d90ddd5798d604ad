"""Whole files fetched from a target, each compared with its sha256 before anybody sees it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from open360.release.hashing import FileDigest, hash_files
from open360.release.targets import Target
from open360.schema.errors import IntegrityError
from open360.schema.manifest import FileRecord

DOWNLOADS_AT_A_TIME = 4

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class FetchedFile:
    """A file on this disk whose bytes are those of its record."""

    record: FileRecord
    path: Path
    digest: FileDigest


def fetch_files(
    target: Target, records: Sequence[FileRecord], folder: Path, progress: Progress | None = None
) -> dict[str, FetchedFile]:
    """Fetch files below `folder` (each into one of its own, so that no two can meet), by their release-folder path.

    What an earlier call has fetched into the same folder is not fetched again.

    Raises:
        IntegrityError: bytes that came are others; they are removed, so that a further call fetches them again.
        TargetError, HubError: a file cannot be had. OSError: this disk fails.
    """
    total = sum(record.bytes for record in records)
    done = 0
    places = {folder / f"{index:05d}": record for index, record in enumerate(records)}
    fetched: dict[Path, Path] = {}
    with ThreadPoolExecutor(DOWNLOADS_AT_A_TIME) as executor:
        futures = {executor.submit(target.download, record, place): place for place, record in places.items()}
        try:
            for future in as_completed(futures):
                place = futures[future]
                fetched[future.result()] = place
                done += places[place].bytes
                if progress is not None:
                    progress(done, total, places[place].path)
        finally:
            for future in futures:
                future.cancel()
    found: dict[str, FetchedFile] = {}
    for path, digest in hash_files(fetched):
        record = places[fetched[path]]
        if (digest.bytes, digest.sha256) != (record.bytes, record.sha256):
            shutil.rmtree(fetched[path], ignore_errors=True)
            raise IntegrityError(
                f"{target.label}/{record.path}",
                f"{record.bytes} bytes, sha256 {record.sha256}",
                f"{digest.bytes} bytes, sha256 {digest.sha256}",
                "pull again; if it stays, tell the publisher that the release is damaged",
            )
        found[record.path] = FetchedFile(record=record, path=path, digest=digest)
    return found
