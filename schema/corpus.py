"""Corpora: sources, processing, tokenizer, row format and published files of the training data."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from open360.schema.model import Described, SpecModel, spec_error, unique
from open360.schema.names import (
    Bytes,
    Count,
    Fraction,
    GitCommit,
    License,
    Name,
    Positive,
    PypiPin,
    RelPath,
    RepoId,
    Sha256,
    Url,
)

SOURCE_KINDS = ("pypi", "http", "hub", "local")


class HubPin(SpecModel):
    """A data set on the Hub; pinned only when `revision` is a commit."""

    repo: RepoId
    revision: GitCommit | None = None
    config: str | None = None
    split: str = "train"
    text: str = Field(default="text", description="column that holds the text of a document")


class FileSet(Described):
    """The published files of the tokenised data, in order.

    `pattern` has one of `{index}` (with an optional width such as `{index:05d}`); or `listed` names a document that
    lists the files one by one, for orders that depend on the list (duplicates count).
    """

    pattern: str | None = Field(default=None, pattern=r"^[^{}]*(\{index(:0?\d{1,2}d)?\}[^{}]*)?$")
    first: Count = 0
    stride: Positive = Field(default=1, description="2 when a set has every second number")
    count: Positive | None = None
    rows: Positive | None = Field(default=None, description="rows in each file")
    bytes: Positive | None = Field(default=None, description="bytes of each file but the last")
    last_bytes: Positive | None = None
    total_rows: Positive | None = None
    listed: Url | None = None
    listed_sha256: Sha256 | None = None
    repeated: tuple[str, ...] = Field(default=(), description="files that the list names twice")

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all files together, when sizes are declared."""
        if self.count is None or self.bytes is None:
            return None
        return self.bytes * (self.count - 1) + (self.last_bytes or self.bytes)

    def numbers(self) -> range:
        """The numbers in the names of the files, in order. Raises ValueError when `count` is not declared."""
        if self.count is None:
            raise ValueError("the number of files is not declared")
        return range(self.first, self.first + self.count * self.stride, self.stride)

    def file(self, index: int) -> str:
        """Path of the file with the number `index` in its name. Raises ValueError when the set has no pattern."""
        if self.pattern is None:
            raise ValueError("this file set is listed, not given by a pattern")
        return self.pattern.format(index=index)


class Source(Described):
    """Where documents come from: exactly one of `pypi`, `http`, `hub`, `local`, or none when it is only named."""

    name: Name
    pypi: PypiPin | None = Field(default=None, description="a source distribution, as NAME==VERSION")
    http: Url | None = None
    hub: HubPin | None = None
    local: RelPath | None = None
    sha256: Sha256 | None = Field(default=None, description="digest of the downloaded file")
    include: tuple[str, ...] = Field(
        default=("**/*",), description="globs of the files taken, inside an archive or folder"
    )
    exclude: tuple[str, ...] = ()
    domain: Name | None = Field(default=None, description="evaluations are reported by domain")
    license: License | None = None
    epochs: Positive = 1
    weight: Fraction | None = Field(default=None, description="sampling weight, where the mix is stated as weights")
    tokens: Count | None = Field(default=None, description="tokens of one epoch, as declared")
    documents: Count | None = Field(default=None, description="documents or examples of one epoch, as declared")
    files: FileSet | None = Field(default=None, description="its tokenised files, where sources are kept apart")

    @property
    def kind(self) -> str | None:
        """`pypi`, `http`, `hub`, `local`, or None for a source that is only named."""
        return next((kind for kind in SOURCE_KINDS if getattr(self, kind) is not None), None)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(getattr(self, kind) is not None for kind in SOURCE_KINDS) > 1:
            raise spec_error(
                "source_kinds",
                "",
                f"source '{self.name}' names several of {', '.join(SOURCE_KINDS)}; keep one",
            )
        return self


class Processing(Described):
    """A step of data preparation, in the order in which it ran."""

    name: Name
    repository: Url | None = None
    commit: GitCommit | None = None
    seed: int | None = None
    seeded_by: Literal["fixed", "clock", "rank", "unseeded"] = "fixed"


class HeldOut(SpecModel):
    """Documents that no run ever trains on, chosen by document digest."""

    fraction: Fraction | None = None
    documents: Count | None = None
    rows: Count | None = None
    repository: RepoId | None = None


class PinnedFile(SpecModel):
    """A file with its digest."""

    path: RelPath
    sha256: Sha256
    bytes: Bytes | None = None


class SpecialIds(SpecModel):
    """Token ids with a role."""

    bos: Count | None = None
    eos: Count | None = None
    pad: Count | None = None
    separator: Count | None = None


class Tokenizer(Described):
    """Either `train`ed from the corpus, or taken from a Hub repo or from files of the release."""

    train: Literal["byte_level_bpe"] | None = None
    hub: RepoId | None = None
    revision: GitCommit | None = None
    path: RelPath | None = None
    files: tuple[PinnedFile, ...] = ()
    vocabulary: Positive | None = None
    special_ids: SpecialIds = SpecialIds()

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(value is not None for value in (self.train, self.hub, self.path)) > 1:
            raise spec_error("tokenizer_origin", "", "a tokenizer has one origin: 'train', 'hub' or 'path'")
        return self


class RowFormat(SpecModel):
    """How one training sequence is stored.

    `row_len` ids a row; `seq_len` of them are predicted. `row_len = seq_len + 1` when inputs and labels are the row
    shifted by one, `row_len = seq_len` when labels are shifted inside the model.
    """

    row_len: Positive
    seq_len: Positive
    dtype: Literal["uint16", "uint32", "int32", "json"] = "uint16"
    format: Literal["parquet", "jsonl", "bin", "npy", "h5", "ds", "litpkds", "webdataset"] = "parquet"
    ids: str = Field(default="token_ids", description="column or key of the ids")
    source: str | None = Field(default=None, description="column or key of the source label")
    separator: str | None = Field(default=None, description="token between documents")
    overlap: Count = Field(default=0, description="ids that a row shares with the row before (Megatron samples: 1)")

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if self.row_len not in (self.seq_len, self.seq_len + 1):
            raise spec_error(
                "row_len",
                "/row_len",
                f"expected row_len {self.seq_len} or {self.seq_len + 1} (seq_len or one more), found {self.row_len}",
            )
        return self


class DataRepository(SpecModel):
    """Where the tokenised data is published."""

    dataset: RepoId | None = None
    url: Url | None = None
    revision: GitCommit | None = None
    aliases: tuple[RepoId, ...] = ()


class Corpus(Described):
    """A named body of training data. Runs refer to it by name."""

    name: Name
    sources: tuple[Source, ...] = ()
    processing: tuple[Processing, ...] = ()
    deduplicate: Literal["exact", "none"] | None = None
    held_out: HeldOut | None = None
    seed: int | None = Field(default=None, description="seed of the document order")
    tokenizer: Tokenizer | None = None
    row: RowFormat | None = None
    counting: Literal["ids", "trained"] = Field(
        default="trained", description="what the declared token counts count: ids stored, or ids predicted"
    )
    tokens: Count | None = Field(default=None, description="declared size in tokens, by the convention of `counting`")
    license: License | None = None
    repository: DataRepository | None = None
    files: FileSet | None = None

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        unique([s.name for s in self.sources], lambda i: f"/sources/{i}/name", "duplicate_name")
        return self
