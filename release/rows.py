"""Reads rows out of chunks, whole or by range, and believes nothing: bounds first, then digests, then the decoder.

Reading one batch costs the bytes of its row group, plus the footer of the chunk and the step table once::

    table = StepTable.from_bytes(step_table_bytes)
    chunk = ChunkReader("chunk_003", table, file_bytes, read_range)
    chunk.batch(1200).ids  # (rows, row_len)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from open360.release.corpus.bounded_parquet import Footer, decode_rows
from open360.release.corpus.chunk_check import ChunkProblem, verify_chunk
from open360.release.corpus.chunk_file import flat_ids, little_endian_ids
from open360.release.corpus.parquet_layout import MAX_FOOTER_BYTES, TAIL_BYTES, ChunkFileError
from open360.release.corpus.step_table import StepEntry, StepTable
from open360.schema.errors import IntegrityError

__all__ = [
    "BatchRows",
    "ChunkFileError",
    "ChunkProblem",
    "ChunkReader",
    "ReadRange",
    "StepEntry",
    "StepTable",
    "decode_rows",
    "verify_chunk",
]

MERGED_READ_BYTES = 32 << 20
ReadRange = Callable[[int, int], bytes]


@dataclass(frozen=True, kw_only=True)
class BatchRows:
    """The rows of one step, as a table with the columns of a chunk."""

    step: int
    first_row: int
    end_row: int
    table: pa.Table

    @property
    def ids(self) -> NDArray[Any]:
        """Ids, shape (rows, row_len)."""
        return flat_ids(self.table).reshape(self.end_row - self.first_row, -1)


class ChunkReader:
    """Reads batches of a chunk by range. Keeps the footer and the last row group.

    Args:
        name: of the chunk, for messages.
        table: its step table, whose digest the caller has checked.
        file_bytes: size of the chunk, as the manifest says.
        read_range: `(begin, end) -> bytes` of the chunk.
    """

    def __init__(self, name: str, table: StepTable, file_bytes: int, read_range: ReadRange) -> None:
        if not table.data_end + TAIL_BYTES <= file_bytes <= table.data_end + MAX_FOOTER_BYTES:
            raise ChunkFileError(name, f"its row groups end at byte {table.data_end}, but it has {file_bytes} bytes")
        self.name, self.table, self._file_bytes, self._read = name, table, file_bytes, read_range
        self._kept: Footer | None = None
        self._group: tuple[int, pa.Table] | None = None

    def batch(self, step: int) -> BatchRows:
        """The rows of one step, checked.

        Raises:
            ChunkFileError: the chunk does not hold the step, or is broken. IntegrityError: a digest differs.
        """
        return next(self.batches(step, step + 1))

    def batches(self, first_step: int, end_step: int) -> Iterator[BatchRows]:
        """The rows of steps `[first_step, end_step)`, in order; neighbouring row groups are read together."""
        entries = [self.table.entry(step) for step in range(first_step, end_step)]
        ready: dict[int, pa.Table] = dict([self._group] if self._group is not None else [])
        for index, entry in enumerate(entries):
            if entry.group not in ready:
                ready = self._fetch(entries[index:])
            self._group = (entry.group, ready[entry.group])
            yield self._checked(entry, ready[entry.group])

    def _footer(self) -> Footer:
        if self._kept is None:
            footer = Footer(self.name, self._exactly(self.table.data_end, self._file_bytes), self.table.data_end)
            ranges = {entry.group: (entry.group_begin, entry.group_end) for entry in self.table.entries}
            if footer.layout.ranges != list(ranges.values()):
                raise ChunkFileError(self.name, "its footer and its step table disagree on the row groups")
            self._kept = footer
        return self._kept

    def _exactly(self, begin: int, end: int) -> bytes:
        data = self._read(begin, end)
        if len(data) != end - begin:
            raise ChunkFileError(self.name, f"expected {end - begin} bytes at {begin}, found {len(data)}")
        return data

    def _fetch(self, entries: list[StepEntry]) -> dict[int, pa.Table]:
        """The row groups of the first entries, in one read of at most `MERGED_READ_BYTES` (or one group)."""
        begin = entries[0].group_begin
        groups = {e.group: e for e in entries if e.group_end - begin <= MERGED_READ_BYTES} or {
            entries[0].group: entries[0]
        }
        footer = self._footer()
        data = self._exactly(begin, max(entry.group_end for entry in groups.values()))
        tables = {}
        for group, entry in groups.items():
            part = data[entry.group_begin - begin : entry.group_end - begin]
            found = hashlib.sha256(part).hexdigest()
            if found != entry.group_sha256:
                raise IntegrityError(
                    f"{self.name}, bytes {entry.group_begin} to {entry.group_end}",
                    f"sha256 {entry.group_sha256}",
                    found,
                    "fetch the range again",
                )
            tables[group] = decode_rows(footer, group, part)
        return tables

    def _checked(self, entry: StepEntry, group: pa.Table) -> BatchRows:
        rows = np.asarray(group.column("row").to_numpy())
        first = entry.first_row - int(rows[0]) if len(rows) else -1
        count = entry.end_row - entry.first_row
        table = group.slice(max(first, 0), count)
        if first < 0 or not np.array_equal(table.column("row").to_numpy(), np.arange(entry.first_row, entry.end_row)):
            raise ChunkFileError(self.name, f"step {entry.step} is not in row group {entry.group}")
        found = hashlib.sha256(little_endian_ids(flat_ids(table))).hexdigest()
        if found != entry.ids_sha256:
            raise IntegrityError(
                f"{self.name}, ids of step {entry.step}", f"sha256 {entry.ids_sha256}", found, "fetch the chunk again"
            )
        return BatchRows(step=entry.step, first_row=entry.first_row, end_row=entry.end_row, table=table)
