"""The manifest: `manifest.json`, generated. It ties every file, chunk and checkpoint to digests.

Two forms. *Built*: content only, reproduces to the byte. *Published*: the built one plus what only publishing knows
(`code_commit`, `published` of every run, chunk and checkpoint). Ranges are half-open: `[first, end)`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import FailFast, Field, model_validator

from open360.schema.model import ManifestModel, spec_error, unique
from open360.schema.names import (
    Bytes,
    Count,
    GitCommit,
    Name,
    Positive,
    RelPath,
    RepoId,
    Revision,
    SemVer,
    Sha256,
    Swhid,
)

MAX_MANIFEST_BYTES = 64 << 20

ItemT = TypeVar("ItemT")
# Reading stops at the first bad item: a hostile list of a million empty objects would cost gigabytes of errors.
Many = Annotated[tuple[ItemT, ...], FailFast()]


class FileRecord(ManifestModel):
    """A file: its path relative to the release folder (for a checkpoint: to the checkpoint's folder)."""

    path: RelPath
    bytes: Bytes
    sha256: Sha256


class Publication(ManifestModel):
    """Where something is on the Hub: always a commit, never only a branch."""

    repo: RepoId
    repo_type: Literal["model", "dataset"]
    revision: Revision
    commit: GitCommit


class StageCode(ManifestModel):
    """Digest of the code that a pipeline stage runs (comments and layout aside, dependency versions included)."""

    stage: Name
    sha256: Sha256


class SourceRecord(ManifestModel):
    """What a source gave to the corpus."""

    name: Name
    documents: Count
    duplicates: Count
    held_out: Count
    bytes: Bytes
    tokens: Count


class CorpusRecord(ManifestModel):
    """A corpus as it was built. Tokens count ids, separators included."""

    name: Name
    sources: Many[SourceRecord]
    documents: Count
    duplicates: Count
    held_out: Count
    tokens: Count
    tokenizer_sha256: Sha256


class ChunkRecord(ManifestModel):
    """A chunk: one file of consecutive rows of a run's training order, and its step table."""

    name: Name
    file: FileRecord
    step_table: FileRecord
    first_step: Count
    end_step: Positive
    first_row: Count
    end_row: Positive
    row_len: Positive
    rows_sha256: Sha256 = Field(description="digest over the ids as little-endian uint32, row after row")
    published: Publication | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.end_row - self.first_row

    @model_validator(mode="after")
    def _ranges_run_forward(self) -> Self:
        if self.end_step <= self.first_step or self.end_row <= self.first_row:
            raise spec_error("empty_range", "", f"chunk '{self.name}' holds no steps or no rows")
        return self


class TensorDigests(ManifestModel):
    """Digests over names, dtypes, shapes and payloads of the tensors, whatever the file they are in."""

    weights: Sha256
    optimizer: Sha256 | None = None


class CheckpointRecord(ManifestModel):
    """A checkpoint: weights after `step` batches, and what it needs to go on."""

    name: Name
    step: Count
    tokens: Count
    learning_rate: float | None = Field(description="of the last batch; null before the first")
    parent: Name | None
    chunk: Name | None
    first_row: Count = Field(description="rows that are new since the parent: [first_row, end_row)")
    end_row: Count
    holds: tuple[Literal["weights", "optimizer", "rng", "position"], ...]
    folder: RelPath
    files: Many[FileRecord] = Field(min_length=1)
    tensors: TensorDigests
    trace: FileRecord | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    published: Publication | None = None

    @model_validator(mode="after")
    def _paths_differ(self) -> Self:
        unique([f.path for f in self.files], lambda i: f"/files/{i}/path", "duplicate_path")
        return self


class RunRecord(ManifestModel):
    """A run as it was trained."""

    name: Name
    corpus: Name | None
    chunks: Many[ChunkRecord]
    checkpoints: Many[CheckpointRecord]
    tokens: Count
    tokens_left_over: Count = 0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        unique([c.name for c in self.chunks], lambda i: f"/chunks/{i}/name", "duplicate_name")
        unique([c.name for c in self.checkpoints], lambda i: f"/checkpoints/{i}/name", "duplicate_name")
        return self

    def checkpoint(self, name: str) -> CheckpointRecord:
        """The checkpoint called `name`. Raises KeyError."""
        for checkpoint in self.checkpoints:
            if checkpoint.name == name:
                return checkpoint
        raise KeyError(name)

    def chunk(self, name: str) -> ChunkRecord:
        """The chunk called `name`. Raises KeyError."""
        for chunk in self.chunks:
            if chunk.name == name:
                return chunk
        raise KeyError(name)


class PublishedRelease(ManifestModel):
    """What only publishing knows of the release as a whole."""

    code_commit: GitCommit | None
    code_swhid: Swhid | None
    dirty: bool | None
    primary: RepoId
    tag: Revision
    repositories: Many[Publication]


class Manifest(ManifestModel):
    """The root of `manifest.json`."""

    open360: Literal[1]
    form: Literal["built", "published"]
    name: Name
    version: SemVer
    spec_sha256: Sha256
    environment_sha256: Sha256 | None
    code: Many[StageCode]
    corpora: Many[CorpusRecord]
    runs: Many[RunRecord]
    files: Many[FileRecord] = Field(description="all files that belong to no chunk and no checkpoint")
    published: PublishedRelease | None = None

    @model_validator(mode="after")
    def _form_agrees(self) -> Self:
        if (self.form == "published") != (self.published is not None):
            raise spec_error("form", "/form", "a published manifest, and only that, has the field 'published'")
        paths = [record.path for record in self.all_files()]
        unique(paths, lambda i: f"/files/{i}/path" if i < len(self.files) else "", "duplicate_path")
        return self

    def run(self, name: str) -> RunRecord:
        """The run called `name`. Raises KeyError."""
        for run in self.runs:
            if run.name == name:
                return run
        raise KeyError(name)

    def all_files(self) -> list[FileRecord]:
        """Every file of the release with its path relative to the release folder, sorted by path."""
        found = list(self.files)
        for run in self.runs:
            for chunk in run.chunks:
                found += [chunk.file, chunk.step_table]
            for checkpoint in run.checkpoints:
                found += [
                    record.model_copy(update={"path": f"{checkpoint.folder}/{record.path}"})
                    for record in checkpoint.files
                ]
                if checkpoint.trace is not None:
                    found.append(checkpoint.trace)
        return sorted(found, key=lambda record: record.path)
