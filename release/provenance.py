"""What a pull is: what it reads, and the record of where everything came from that it leaves beside its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open360.release.hashing import hash_files
from open360.release.hub_target import HubTarget
from open360.release.rows import StepEntry
from open360.release.targets import Target
from open360.schema.manifest import ChunkRecord, FileRecord, Manifest
from open360.schema.serialization import canonical_json, dump_json

PROVENANCE_FILE = "provenance.json"
PROVENANCE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlannedRead:
    """Bytes `[begin, end)` of a file of the release."""

    path: str
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for; `form` is that of rows.

    `what`: data, steps, weights, optimizer, checkpoint, metrics or manifest.

    Of the batches only `rows` (numbers in the run, half-open) and rows of `source` are kept, where these are given.
    """

    target: Target
    manifest: Manifest
    what: str
    run: str | None = None
    checkpoint: str | None = None
    first_step: int | None = None
    end_step: int | None = None
    form: str | None = None
    rows: tuple[int, int] | None = None
    source: str | None = None

    def with_form(self, form: str) -> Request:
        """The same in another form."""
        return replace(self, form=form)

    def identity(self) -> str:
        """Equal for requests of equal content: what is fetched for one serves the other."""
        content = hashlib.sha256(dump_json(self.manifest)).hexdigest()
        parts = (
            self.what,
            self.run,
            self.checkpoint,
            self.first_step,
            self.end_step,
            self.form,
            self.rows,
            self.source,
        )
        return "\n".join([self.target.label, content, *map(str, parts)])


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull: what it reads and where it was put; `out` is None when nothing was done."""

    request: Request
    reads: tuple[PlannedRead, ...]
    out: Path | None = None

    @property
    def bytes(self) -> int:
        """Bytes to read when nothing is cached."""
        return sum(read.end - read.begin for read in self.reads)

    def done(self, out: Path) -> Pull:
        """The same pull, carried out."""
        return replace(self, out=out)

    def as_json(self) -> dict[str, Any]:
        """The pull for a program to read."""
        return {
            **_request_as_json(self.request),
            "reads": [{"path": read.path, "begin": read.begin, "end": read.end} for read in self.reads],
            "bytes": self.bytes,
            "out": str(self.out) if self.out is not None else None,
        }


def whole_reads(files: Iterable[FileRecord]) -> tuple[PlannedRead, ...]:
    """Reads of whole files."""
    return tuple(PlannedRead(path=file.path, begin=0, end=file.bytes) for file in files)


def write_provenance(
    pull: Pull,
    folder: Path,
    *,
    files: Sequence[FileRecord] = (),
    entries: Sequence[StepEntry] = (),
    chunks: Sequence[ChunkRecord] = (),
    weights: str | None = None,
) -> None:
    """Write `provenance.json` into the folder, beside the files of the pull. It holds no time: equal pulls are equal.

    Args:
        files: whole files whose sha256 was verified.
        entries: lines of step tables whose batches were verified.
        chunks: chunks whose rows digest was verified.
        weights: tensors digest that was verified.
    """
    target = pull.request.target
    record = {
        "provenance_version": PROVENANCE_VERSION,
        **_request_as_json(pull.request),
        "sources": [
            {"path": file.path, "bytes": file.bytes, "sha256": file.sha256, **_origin(target, file.path)}
            for file in files
        ],
        "ranges": [
            {"path": read.path, "begin": read.begin, "end": read.end, **_origin(target, read.path)}
            for read in pull.reads
            if not files
        ],
        "rows": {"first": entries[0].first_row, "end": entries[-1].end_row} if entries else None,
        "batches": {str(entry.step): entry.ids_sha256 for entry in entries},
        "chunks": {chunk.name: chunk.rows_sha256 for chunk in chunks},
        "tensors": weights,
        "files": written_files(folder),
    }
    (folder / PROVENANCE_FILE).write_bytes(canonical_json(record))


def written_files(folder: Path) -> list[dict[str, Any]]:
    """The files of a folder with their digests."""
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": digest.bytes, "sha256": digest.sha256}
        for path, digest in hash_files(written)
    ]


def _request_as_json(request: Request) -> dict[str, Any]:
    target = request.target
    where: dict[str, Any] = {"target": target.label}
    if isinstance(target, HubTarget):
        where = {"target": target.repo.id, "endpoint": target.hub.endpoint, "tag": target.tag, "commit": target.commit}
    steps = {"first": request.first_step, "end": request.end_step} if request.first_step is not None else None
    return {
        **where,
        "release": request.manifest.name,
        "version": request.manifest.version,
        "what": request.what,
        "run": request.run,
        "checkpoint": request.checkpoint,
        "form": request.form,
        "steps": steps,
        **({"source": request.source} if request.source is not None else {}),
        **({"kept_rows": {"first": request.rows[0], "end": request.rows[1]}} if request.rows is not None else {}),
    }


def _origin(target: Target, path: str) -> dict[str, str]:
    if not isinstance(target, HubTarget):
        return {}
    repo, commit, inside = target.locate(path)
    return {"repo": repo.id, "repo_type": repo.type, "commit": commit, "path_in_repo": inside}
