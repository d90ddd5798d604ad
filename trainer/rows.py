"""Rows of a chunk, batch by batch, in the order in which they are trained on: read, checked, never shuffled.

One row group is in memory at a time. Nothing in the file is believed: row numbers, steps, lengths and ids are checked,
and each batch's ids have a digest that the step table states too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from open360.schema.errors import IntegrityError
from open360.schema.layout import chunk_name, chunk_path, step_table_path
from open360.schema.run import Run
from open360.schema.schedule import Segment, rows_at
from open360.trainer.errors import MissingInputError

NEXT = "build or fetch the chunk again"
COLUMNS = ("row", "step", "token_ids")
ID_TYPES = (pa.uint16(), pa.uint32())
GROUP_SLACK_BYTES = 1 << 20  # page headers, levels and encodings of a row group, over the plain values


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The rows of one step. `ids` has shape (rows, row_len), int64; rows are numbered over the whole run."""

    step: int
    first_row: int
    end_row: int
    ids: npt.NDArray[np.int64]
    ids_sha256: str


class ChunkRows:
    """The rows of one segment's chunk.

    Raises IntegrityError, here and while reading, when the file does not hold exactly the segment's rows.
    """

    def __init__(self, run: Run, segment: Segment, root: Path, *, row_len: int, vocabulary: int) -> None:
        self.run, self.segment = run, segment
        self.row_len, self.vocabulary = row_len, vocabulary
        self.name = chunk_name(segment.index)
        self.label = chunk_path(run.name, self.name)
        self.path = root / self.label
        self.table_label = step_table_path(run.name, self.name)
        self.table_path = root / self.table_label
        for path, label in ((self.path, self.label), (self.table_path, self.table_label)):
            if not path.is_file():
                raise MissingInputError(label, f"the rows of segment '{segment.name}'")
        self._file()
        self.stated = self._stated_digests()

    def verify(self) -> str:
        """Read the whole chunk, compare every batch with the step table; returns the rows digest."""
        digest = hashlib.sha256()
        for batch in self.batches(self.segment.first_step):
            digest.update(_as_uint32(batch.ids))
        return digest.hexdigest()

    def batches(self, first_step: int) -> Iterator[Batch]:
        """Batches `first_step` … to the end of the segment, each checked against the step table."""
        step, held = self.segment.first_step, np.empty((0, self.row_len), dtype=np.int64)
        for ids in self._groups():
            held = np.concatenate([held, ids]) if len(held) else ids
            while step < self.segment.end_step:
                first, end = rows_at(self.run, step), rows_at(self.run, step + 1)
                if len(held) < end - first:
                    break
                batch, held = held[: end - first], held[end - first :]
                if step >= first_step:
                    yield self._checked(step, first, end, batch)
                step += 1

    def _checked(self, step: int, first: int, end: int, ids: npt.NDArray[np.int64]) -> Batch:
        digest = hashlib.sha256(_as_uint32(ids)).hexdigest()
        if digest != self.stated[step]:
            raise IntegrityError(
                f"{self.label}, ids of step {step}", f"digest {self.stated[step]} ({self.table_label})", digest, NEXT
            )
        return Batch(step=step, first_row=first, end_row=end, ids=ids, ids_sha256=digest)

    def _file(self) -> pq.ParquetFile:
        file = _open(self.path, self.label)
        schema, metadata = file.schema_arrow, file.metadata
        for column in COLUMNS:
            if column not in schema.names:
                raise IntegrityError(self.label, f"a column '{column}'", ", ".join(schema.names[:9]), NEXT)
        kind = schema.field("token_ids").type
        if not pa.types.is_list(kind) or kind.value_type not in ID_TYPES:
            raise IntegrityError(f"{self.label}, column 'token_ids'", "lists of uint16 or uint32", str(kind), NEXT)
        if metadata.num_rows != self.segment.rows:
            raise IntegrityError(
                self.label, f"{self.segment.rows} rows (segment '{self.segment.name}')", str(metadata.num_rows), NEXT
            )
        for index in range(metadata.num_row_groups):
            self._check_size(index, metadata.row_group(index), kind.value_type.bit_width // 8)
        return file

    def _check_size(self, index: int, group: Any, id_bytes: int) -> None:
        """Refuse a row group that unpacks to more than its rows: a small file can claim any number of ids."""
        columns = [group.column(i) for i in range(group.num_columns)]
        read = [column for column in columns if column.path_in_schema.split(".")[0] in COLUMNS]
        values, size = max(column.num_values for column in read), sum(column.total_uncompressed_size for column in read)
        limit = 2 * group.num_rows * (self.row_len * id_bytes + 16) + GROUP_SLACK_BYTES
        if values > group.num_rows * self.row_len or size > limit:
            expected = f"at most {group.num_rows * self.row_len} ids in {limit} bytes for {group.num_rows} rows"
            raise IntegrityError(f"{self.label}, row group {index}", expected, f"{values} in {size} bytes", NEXT)

    def _groups(self) -> Iterator[npt.NDArray[np.int64]]:
        """Ids of each row group as (rows, row_len), after all checks but the digests."""
        row = self.segment.first_row
        with self._file() as file:
            for index in range(file.metadata.num_row_groups):
                table = _read(lambda i=index, f=file: f.read_row_group(i, list(COLUMNS), use_threads=False), self.label)
                count = table.num_rows
                rows = np.arange(row, row + count, dtype=np.int64)
                self._compare("row", table, rows)
                self._compare("step", table, self._steps_of(row, row + count))
                yield self._ids(table, row)
                row += count

    def _steps_of(self, first_row: int, end_row: int) -> npt.NDArray[np.int64]:
        steps = np.arange(self.segment.first_step, self.segment.end_step + 1)
        if self.run.batch is not None and len(self.run.batch.root) == 1:
            borders = steps * self.run.batch.at(0)
        else:
            borders = np.array([rows_at(self.run, int(step)) for step in steps])
        found = np.searchsorted(borders, np.arange(first_row, end_row), side="right") - 1
        return steps[found]

    def _compare(self, column: str, table: pa.Table, expected: npt.NDArray[np.int64]) -> None:
        values = table.column(column).combine_chunks()
        found = values.to_numpy(zero_copy_only=False)
        if values.null_count or not np.array_equal(found, expected):
            where = f"{self.label}, column '{column}'"
            raise IntegrityError(where, f"{expected[0]} to {expected[-1]}, increasing", "other numbers", NEXT)

    def _ids(self, table: pa.Table, row: int) -> npt.NDArray[np.int64]:
        lists = table.column("token_ids").combine_chunks()
        where = f"{self.label}, rows from {row}"
        lengths = np.diff(lists.offsets.to_numpy())
        if lists.null_count or lists.values.null_count or (lengths != self.row_len).any():
            raise IntegrityError(where, f"{self.row_len} ids in each row", "rows of another length", NEXT)
        flat: npt.NDArray[np.int64] = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        ids = flat.reshape(-1, self.row_len)
        if ids.size and ids.max() >= self.vocabulary:
            raise IntegrityError(where, f"ids below {self.vocabulary} (vocab_size)", f"id {ids.max()}", NEXT)
        return ids

    def _stated_digests(self) -> dict[int, str]:
        """`{step: digest of its ids}` of the step table, after checking that it describes the segment's steps."""
        first, end = self.segment.first_step, self.segment.end_step
        file = _open(self.table_path, self.table_label)
        if file.metadata.num_rows != end - first:
            raise IntegrityError(self.table_label, f"{end - first} steps", f"{file.metadata.num_rows}", NEXT)
        columns = ["step", "first_row", "end_row", "ids_sha256"]
        missing = [column for column in columns if column not in file.schema_arrow.names]
        if missing:
            raise IntegrityError(self.table_label, f"a column '{missing[0]}'", "none of that name", NEXT)
        table = _read(lambda: file.read(columns, use_threads=False), self.table_label).to_pylist()
        stated = {}
        for step, entry in zip(range(first, end), table, strict=True):
            expected = (step, rows_at(self.run, step), rows_at(self.run, step + 1))
            found = (entry["step"], entry["first_row"], entry["end_row"])
            if found != expected:
                what = "(step, first row, end row)"
                raise IntegrityError(f"{self.table_label}, {what}", str(expected), str(found), NEXT)
            stated[step] = str(entry["ids_sha256"])
        return stated


def _as_uint32(ids: npt.NDArray[np.int64]) -> bytes:
    return ids.astype("<u4").tobytes()


def _open(path: Path, label: str) -> pq.ParquetFile:
    file: pq.ParquetFile = _read(lambda: pq.ParquetFile(path), label)
    return file


def _read(call: Any, label: str) -> Any:
    """Run a reader of pyarrow; whatever is wrong with the file becomes an IntegrityError."""
    try:
        return call()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(label, "a Parquet file that can be read", f"{error}"[:300], NEXT) from error
