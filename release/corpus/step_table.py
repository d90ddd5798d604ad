"""The step table of a chunk: which rows and which byte range a step is, with digests of both."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from open360.release.corpus.bounded_parquet import read_whole
from open360.release.corpus.chunk_file import STEP_TABLE_SCHEMA
from open360.release.corpus.parquet_layout import DATA_BEGIN, MAX_GROUP_BYTES, ChunkFileError

MAX_STEP_TABLE_BYTES = 256 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class StepEntry:
    """One line of a step table: rows `[first_row, end_row)` of step `step` lie in row group `group`, which is bytes
    `[group_begin, group_end)` of the chunk; digests of those bytes and of the ids of this step alone."""

    step: int
    first_row: int
    end_row: int
    group: int
    group_begin: int
    group_end: int
    group_sha256: str
    ids_sha256: str


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """The step table of a chunk: steps, rows and row groups run without holes."""

    name: str
    entries: tuple[StepEntry, ...]

    @classmethod
    def from_bytes(cls, data: bytes, limit: int = MAX_STEP_TABLE_BYTES, *, name: str = "step table") -> StepTable:
        """Read and check a step table. Raises ChunkFileError, also when it has more than `limit` bytes."""
        if len(data) > limit:
            raise ChunkFileError(name, f"expected at most {limit} bytes, found {len(data)}")
        table = read_whole(name, data)
        if not table.schema.equals(STEP_TABLE_SCHEMA):
            raise ChunkFileError(name, f"expected the columns of a step table, found {table.schema.names[:9]}")
        try:
            entries = tuple(StepEntry(**line) for line in table.to_pylist())
        except ValueError as error:
            raise ChunkFileError(name, f"it holds text that is not UTF-8 ({error})") from error
        problem = next(_problems_of(entries), None)
        if problem is not None:
            raise ChunkFileError(name, problem)
        return cls(name=name, entries=entries)

    @property
    def first_step(self) -> int:
        """First step of the chunk."""
        return self.entries[0].step

    @property
    def end_step(self) -> int:
        """Step after the last one."""
        return self.entries[-1].step + 1

    @property
    def data_end(self) -> int:
        """Where the row groups end in the chunk, and its footer begins."""
        return self.entries[-1].group_end

    def entry(self, step: int) -> StepEntry:
        """The line of a step. Raises ChunkFileError when the chunk does not hold it."""
        if not self.first_step <= step < self.end_step:
            raise ChunkFileError(
                self.name, f"expected steps {self.first_step} to {self.end_step - 1}, asked for {step}"
            )
        return self.entries[step - self.first_step]


def _problems_of(entries: tuple[StepEntry, ...]) -> Iterator[str]:
    """What is wrong with the lines of a step table."""
    if not entries or any(value is None for entry in entries for value in vars(entry).values()):
        yield "it has no lines, or lines with holes"
        return
    first = entries[0]
    if first.step < 0 or first.first_row < 0 or first.group != 0 or first.group_begin != DATA_BEGIN:
        yield f"its first line is impossible: {first}"
    for entry in entries:
        digests = (entry.group_sha256, entry.ids_sha256)
        if entry.end_row <= entry.first_row or entry.group_end <= entry.group_begin:
            yield f"step {entry.step} has no rows or no bytes"
        if entry.group_end - entry.group_begin > MAX_GROUP_BYTES or not all(map(_SHA256.fullmatch, digests)):
            yield f"step {entry.step} has a digest or a byte range that cannot be"
    for before, entry in itertools.pairwise(entries):
        same = entry.group == before.group
        ranges = (before.group_begin, before.group_end, before.group_sha256)
        joined = (entry.group_begin, entry.group_end, entry.group_sha256) == ranges
        follows = entry.group == before.group + 1 and entry.group_begin == before.group_end
        if entry.step != before.step + 1 or entry.first_row != before.end_row or not (joined if same else follows):
            yield f"step {entry.step} does not follow on step {before.step}"
