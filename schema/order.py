"""Order: how a step maps to rows. Five kinds cover every release that we know of.

The models here are declarations; `rows` that need nothing but arithmetic are computed in `schedule`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from open360.schema.model import Described, spec_error
from open360.schema.names import Count, Positive, RepoId, Sha256, Url


class UnknownOrder(Described):
    """The order cannot be said: it depends on ranks, restarts or files that were not published."""

    kind: Literal["unknown"]
    reason: str = Field(min_length=10)


class MaterializedOrder(Described):
    """The stored stream is the training order: row *i* of the stream is the *i*-th row trained on."""

    kind: Literal["materialized"]
    first_row: Count = Field(default=0, description="row of the stream that batch 0 starts at")


class FileOrder(Described):
    """Inside a chunk, rows are trained in file order."""

    kind: Literal["file"]


class ChunkOrder(Described):
    """Each segment trains on one chunk of the corpus' file set.

    `chunks` lists chunk numbers in trained order as inclusive ranges: `[[0, 15], [32, 37]]` is 0…15, then 32…37.
    `rows_used` of each chunk are trained on, the rest is dropped.
    """

    kind: Literal["chunk"]
    chunks: tuple[tuple[Count, Count], ...]
    rows_used: Positive
    within: Annotated[FileOrder | UnknownOrder, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _ranges_are_sane(self) -> Self:
        total = 0
        for index, (first, last) in enumerate(self.chunks):
            if last < first:
                raise spec_error("chunk_range", f"/chunks/{index}", f"range [{first}, {last}] runs backwards")
            total += last - first + 1
        if not 0 < total <= 1_000_000:
            raise spec_error("chunk_range", "/chunks", f"expected 1 to 1,000,000 chunks, found {total}")
        return self

    def sequence(self) -> list[int]:
        """Chunk numbers in trained order."""
        return [chunk for first, last in self.chunks for chunk in range(first, last + 1)]


class PermutationFileOrder(Described):
    """A stored index array maps training position to instance of the unshuffled shards."""

    kind: Literal["permutation-file"]
    format: Literal["raw-uint32", "neox-index-maps"]
    url: Url | None = None
    repo: RepoId | None = None
    path: str | None = None
    sha256: Sha256 | None = None
    entries: Positive | None = None
    seed: int | None = None


class FunctionOrder(Described):
    """The order follows from a seed and the ordered list of files with their sizes."""

    kind: Literal["function"]
    algorithm: Literal[
        "numpy-pcg64-shuffle", "numpy-randomstate-shuffle", "nanoset", "levanter-linear", "levanter-feistel"
    ]
    version: str | None = Field(default=None, description="library version that the order was checked with")
    seed: int | None = None
    epoch_base: Literal[0, 1] = Field(default=0, description="number of the first epoch; the seed is seed + epoch")
    chunk_rows: Positive = Field(default=1, description="rows that stay together in a chunked shuffle")
    first_row: Count = Field(default=0, description="place in the shuffled order that batch 0 starts at")
    resolvable: bool = Field(default=True, description="false when the files or their sizes are not public")


Order = Annotated[
    MaterializedOrder | ChunkOrder | PermutationFileOrder | FunctionOrder | UnknownOrder,
    Field(discriminator="kind"),
]
