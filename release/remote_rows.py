"""Rows of a release read by range: the step table once, the footer of a chunk once, then one range a batch."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

from open360.release.corpus.step_table import MAX_STEP_TABLE_BYTES
from open360.release.hub_target import HubTarget
from open360.release.provenance import PlannedRead
from open360.release.read_cache import ReadCache
from open360.release.rows import BatchRows, ChunkFileError, ChunkReader, StepTable
from open360.release.targets import Target
from open360.schema.errors import IntegrityError
from open360.schema.manifest import ChunkRecord, FileRecord


def read_step_table(target: Target, chunk: ChunkRecord) -> StepTable:
    """The step table of a chunk, compared with the manifest; from the cache when this digest was read before.

    Raises IntegrityError.
    """
    record = chunk.step_table
    with _as_damage(target, chunk):
        table = StepTable.from_bytes(_verified(target, record), name=record.path)
    stated = (chunk.first_step, chunk.end_step, chunk.first_row, chunk.end_row)
    found = (table.first_step, table.end_step, table.entries[0].first_row, table.entries[-1].end_row)
    if found != stated:
        raise IntegrityError(
            f"{target.label}/{record.path}, steps and rows", str(stated), str(found), "see 'open360 validate'"
        )
    return table


def read_batches(target: Target, chunk: ChunkRecord, table: StepTable, first: int, end: int) -> Iterator[BatchRows]:
    """Batches `[first, end)` of a chunk, each verified. Raises IntegrityError."""
    footer = _Footer(target, chunk, table.data_end)
    with _as_damage(target, chunk):
        reader = ChunkReader(chunk.name, table, chunk.file.bytes, footer.read_range)
        for batch in reader.batches(first, end):
            footer.keep()
            yield batch


def planned_ranges(chunk: ChunkRecord, table: StepTable, first: int, end: int) -> list[PlannedRead]:
    """What reading batches `[first, end)` costs without any cache: step table, footer, row groups."""
    groups = {table.entry(step).group: table.entry(step) for step in range(first, end)}
    return [
        PlannedRead(path=chunk.step_table.path, begin=0, end=chunk.step_table.bytes),
        PlannedRead(path=chunk.file.path, begin=table.data_end, end=chunk.file.bytes),
        *(PlannedRead(path=chunk.file.path, begin=e.group_begin, end=e.group_end) for e in groups.values()),
    ]


@contextlib.contextmanager
def _as_damage(target: Target, chunk: ChunkRecord) -> Iterator[None]:
    """A file that cannot be read is damage here: what was asked for lies inside of it by the manifest."""
    try:
        yield
    except ChunkFileError as error:
        raise IntegrityError(
            f"{target.label}, {chunk.name}", "a chunk as its manifest describes it", error.problem, "pull again"
        ) from error


def _verified(target: Target, record: FileRecord) -> bytes:
    if record.bytes > MAX_STEP_TABLE_BYTES:
        limit = f"a step table of at most {MAX_STEP_TABLE_BYTES} bytes"
        raise IntegrityError(
            f"{target.label}/{record.path}", limit, f"a claim of {record.bytes}", "see 'open360 validate'"
        )
    cache, key = _cache_of(target), ("sha256", record.sha256)
    known = cache.find(key) if cache is not None else None
    data = known if known is not None else target.read(record.path, record.bytes)
    if len(data) != record.bytes:
        raise IntegrityError(
            f"{target.label}/{record.path}", f"{record.bytes} bytes", str(len(data)), "see 'open360 validate'"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != record.sha256:
        raise IntegrityError(
            f"{target.label}/{record.path}", f"sha256 {record.sha256}", found, "pull again; see 'open360 validate'"
        )
    if cache is not None and known is None:
        cache.keep(key, data)
    return data


def _cache_of(target: Target) -> ReadCache | None:
    return target.cache if isinstance(target, HubTarget) else None


class _Footer:
    """Reads ranges of a chunk; its footer from the cache when rows were read with it before.

    A footer has no digest of its own: it is kept only after rows that were decoded with it had theirs, and one from
    the cache that does not fit any more is as good as none.
    """

    def __init__(self, target: Target, chunk: ChunkRecord, begin: int) -> None:
        self._target, self._chunk, self._begin = target, chunk, begin
        self._cache = _cache_of(target)
        self._key = ("footer", chunk.file.sha256)
        self._new: bytes | None = None

    def read_range(self, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)` of the chunk."""
        is_footer = begin == self._begin and end == self._chunk.file.bytes
        if is_footer and self._cache is not None:
            known = self._cache.find(self._key)
            if known is not None and len(known) == end - begin:
                return known
        data = self._target.read_range(self._chunk.file.path, begin, end)
        if is_footer:
            self._new = data
        return data

    def keep(self) -> None:
        """Keep the footer that was read: rows have been verified with it."""
        if self._new is not None and self._cache is not None:
            self._cache.keep(self._key, self._new)
        self._new = None
