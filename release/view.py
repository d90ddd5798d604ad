"""What the rules look at: the documents, the listing, the digests and the content of a release, each read once, lazily.

Nothing in a release is believed: every read is bounded, and a file that is missing, too large or not readable is
`None`, with the reason kept for the rule that reports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from open360.release.findings import EvidenceLevel, Location
from open360.release.hash_cache import CACHE_PATH, HashCache
from open360.release.hashing import FileDigest, hash_files
from open360.release.targets import FolderTarget, ListedFile, Target, TargetError
from open360.schema.errors import SpecError, SpecProblem, UnsupportedVersionError
from open360.schema.layout import MANIFEST_FILE, SPEC_FILE
from open360.schema.manifest import CheckpointRecord, FileRecord, Manifest, RunRecord
from open360.schema.run import Run
from open360.schema.serialization import Positions, load_manifest, load_spec_with_positions, parse_json
from open360.schema.spec import ReleaseSpec

MAX_DOCUMENT_BYTES = 16 << 20
RANGE_BYTES = 8 << 20

Progress = Callable[[int, int, str], None]


class ReleaseView:
    """A release under validation. `level` is how much may be looked at."""

    def __init__(self, target: Target, level: EvidenceLevel, progress: Progress | None = None) -> None:
        self.target, self.level, self.progress = target, level, progress
        self.spec_problems: tuple[SpecProblem, ...] = ()
        self.manifest_problems: tuple[SpecProblem, ...] = ()
        self.unreadable: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.spec_bytes = b""
        self.readable_spec: ReleaseSpec | None = None
        self._positions: Positions = {}
        self._manifest: Manifest | None = None
        self._read_spec()
        self.has_manifest = self._read_manifest()

    def _read_spec(self) -> None:
        try:
            self.spec_bytes = self.target.spec_bytes()
            self.readable_spec, self._positions = load_spec_with_positions(self.spec_bytes, SPEC_FILE)
        except SpecError as error:
            self.spec_problems = error.problems
        except (UnsupportedVersionError, TargetError) as error:
            self.spec_problems = (_problem(SPEC_FILE, str(error)),)

    def _read_manifest(self) -> bool:
        try:
            data = self.target.manifest_bytes()
            if data is None:
                return False
            self._manifest = load_manifest(data, MANIFEST_FILE)
        except SpecError as error:
            self.manifest_problems = error.problems
        except (UnsupportedVersionError, TargetError) as error:
            self.manifest_problems = (_problem(MANIFEST_FILE, str(error)),)
        return True

    @property
    def spec(self) -> ReleaseSpec:
        """The spec; a rule that reads it requires that it could be read."""
        assert self.readable_spec is not None, "a rule that reads the spec requires SPC001"  # noqa: S101
        return self.readable_spec

    @property
    def manifest(self) -> Manifest:
        """The manifest; a rule that reads it requires that it is there and could be read."""
        assert self._manifest is not None, "a rule that reads the manifest requires SPC003 and SPC004"  # noqa: S101
        return self._manifest

    @property
    def title(self) -> tuple[str | None, str | None]:
        """Name and version of the release, as far as a document could be read."""
        document = self.readable_spec or self._manifest
        return (None, None) if document is None else (document.name, document.version)

    def place(self, pointer: str) -> Location:
        """A place in the spec: the value at `pointer`, or the nearest thing around it that is written there."""
        at = pointer
        while at and at not in self._positions:
            at = at.rsplit("/", 1)[0]
        line, column = self._positions.get(at, (1, 1))
        return Location(path=SPEC_FILE, line=line, column=column, pointer=pointer)

    def declares(self, pointer: str) -> bool:
        """Whether the author wrote the value at `pointer` down (it is no default)."""
        return pointer in self._positions

    def run_pointer(self, name: str) -> str:
        """Pointer of the run called `name`; of the run that it is a variant of."""
        for index, run in enumerate(self.spec.runs):
            if any(expanded.name == name for expanded in run.expanded()):
                return f"/runs/{index}"
        return "/runs"

    def built_runs(self) -> Iterator[tuple[Run, RunRecord]]:
        """Declared runs that the manifest holds too, with their records."""
        records = {record.name: record for record in self.manifest.runs}
        for run in self.spec.all_runs():
            if run.name in records:
                yield run, records[run.name]

    def built_checkpoints(self) -> Iterator[tuple[RunRecord, CheckpointRecord]]:
        """Checkpoints of the manifest, run by run."""
        for run in self.manifest.runs:
            for checkpoint in run.checkpoints:
                yield run, checkpoint

    @cached_property
    def listing(self) -> dict[str, ListedFile]:
        """Every file that the target shows."""
        return self.target.listing()

    @cached_property
    def present(self) -> list[str]:
        """Paths that the manifest names and the target shows."""
        found = sorted(set(self.listing) & {record.path for record in self.manifest.all_files()})
        self.counts["listed_files"] = len(found)
        return found

    @cached_property
    def digests(self) -> dict[str, FileDigest]:
        """Digests of the bytes of every file that the manifest names and the target has."""
        wanted = sorted(set(self.listing) & {record.path for record in self.manifest.all_files()})
        found = dict(
            self._local_digests(wanted) if isinstance(self.target, FolderTarget) else self._far_digests(wanted)
        )
        self.counts["hashed_files"] = len(found)
        self.counts["hashed_bytes"] = sum(digest.bytes for digest in found.values())
        return found

    def _local_digests(self, wanted: list[str]) -> Iterator[tuple[str, FileDigest]]:
        assert isinstance(self.target, FolderTarget)  # noqa: S101
        by_file: dict[Path, list[str]] = {}  # links inside a release may lead two paths to one file
        for path in wanted:
            try:
                by_file.setdefault(self.target.local_path(path), []).append(path)
            except TargetError as error:
                self.unreadable[path] = str(error)
        root = self.target.root
        cache = HashCache(root / CACHE_PATH, root)

        def keep_reason(file: Path, error: OSError) -> None:
            self.unreadable.update((path, str(error.strerror or error)) for path in by_file[file])

        for file, digest in hash_files(list(by_file), cache=cache, progress=self.progress, on_error=keep_reason):
            for path in by_file[file]:
                yield path, digest

    def _far_digests(self, wanted: list[str]) -> Iterator[tuple[str, FileDigest]]:
        total = sum(self.listing[path].bytes for path in wanted)
        done = 0
        for path in wanted:
            sha256 = hashlib.sha256()
            size = self.listing[path].bytes
            for begin in range(0, size, RANGE_BYTES):
                sha256.update(self.target.read_range(path, begin, min(begin + RANGE_BYTES, size)))
            done += size
            if self.progress is not None:
                self.progress(done, total, path)
            yield path, FileDigest(bytes=size, sha256=sha256.hexdigest())

    def intact(self, path: str) -> bool:
        """Whether a file is there with the bytes of the manifest; another one is reported once, and read no further."""
        record = self._records.get(path)
        digest = self.digests.get(path)
        return record is not None and digest is not None and digest.sha256 == record.sha256

    @cached_property
    def _records(self) -> dict[str, FileRecord]:
        return {record.path: record for record in self.manifest.all_files()}

    def read(self, path: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes | None:
        """A whole file; None when it cannot be had, with the reason in `unreadable`."""
        try:
            return self.target.read(path, max_bytes)
        except TargetError as error:
            self.unreadable[path] = str(error)
        except OSError as error:
            self.unreadable[path] = str(error.strerror or error)
        return None

    def document(self, path: str) -> Any:
        """Plain data of a JSON file; None when it cannot be had, with the reason in `unreadable`."""
        data = self.read(path)
        if data is None:
            return None
        try:
            return parse_json(data, path, MAX_DOCUMENT_BYTES)
        except SpecError as error:
            self.unreadable[path] = "; ".join(problem.message for problem in error.problems)
            return None


def _problem(file: str, message: str) -> SpecProblem:
    return SpecProblem(file=file, line=None, column=None, pointer="", code="unreadable", message=message)
