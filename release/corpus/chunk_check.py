"""Looks at every byte and every row of a chunk, and says what is wrong as data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from open360.release.corpus.bounded_parquet import Footer, decode_rows
from open360.release.corpus.chunk_file import flat_ids, little_endian_ids
from open360.release.corpus.id_tally import IdTally
from open360.release.corpus.parquet_layout import MAX_FOOTER_BYTES, TAIL_BYTES, ChunkFileError
from open360.release.corpus.step_table import MAX_STEP_TABLE_BYTES, StepEntry, StepTable
from open360.schema.manifest import ChunkRecord

MAX_PROBLEMS = 50


@dataclass(frozen=True, kw_only=True)
class ChunkProblem:
    """One thing that is wrong with a chunk.

    `code`: `unreadable` (missing, broken or hostile), `step_table`, `ranges`, `group_digest`, `rows`, `steps`,
    `row_len`, `ids`, `documents`, `batch_digest`, `rows_digest`. `where` names the place inside the chunk.
    """

    code: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: expected {self.expected}, found {self.found}"


def verify_chunk(
    chunk: Path, step_table: Path, record: ChunkRecord, *, vocabulary: int | None = None, tally: IdTally | None = None
) -> list[ChunkProblem]:
    """Every problem of a chunk and its step table, the first `MAX_PROBLEMS`; none when the record describes them.

    Checked: rows and steps run without holes as the record says, all rows have `row_len` ids below `vocabulary`, the
    documents of each row cover it, row groups fill the file, and all digests: of byte ranges, batches and the chunk.
    One row group is in memory at a time; `tally` takes its ids. Never raises on a file's content.
    """
    problems: list[ChunkProblem] = []
    try:
        for problem in _Check(chunk, step_table, record, vocabulary, tally or IdTally()).problems():
            problems.append(problem)
            if len(problems) == MAX_PROBLEMS:
                break
    except ChunkFileError as error:
        problems.append(_broken(error.file, error.problem))
    except OSError as error:
        problems.append(_broken(Path(str(error.filename)).name, error.strerror or str(error)))
    return problems


def _broken(file: str, problem: str) -> ChunkProblem:
    return ChunkProblem(code="unreadable", where=file, expected="a whole file of this kind", found=problem)


def _read_step_table(path: Path) -> StepTable:
    with path.open("rb") as file:
        return StepTable.from_bytes(file.read(MAX_STEP_TABLE_BYTES + 1), name=path.name)


class _Check:
    def __init__(
        self, chunk: Path, step_table: Path, record: ChunkRecord, vocabulary: int | None, tally: IdTally
    ) -> None:
        self.chunk, self.record, self.vocabulary, self.tally = chunk, record, vocabulary, tally
        self.table = _read_step_table(step_table)
        self.digest = hashlib.sha256()
        self.whole = True  # every group was decoded, so that the digest of all rows means something

    def problems(self) -> Iterator[ChunkProblem]:
        record, entries = self.record, self.table.entries
        stated = (record.first_step, record.end_step, record.first_row, record.end_row)
        found = (self.table.first_step, self.table.end_step, entries[0].first_row, entries[-1].end_row)
        if found != stated:
            what = "first step, end step, first row, end row"
            yield ChunkProblem(code="step_table", where=f"step table, {what}", expected=str(stated), found=str(found))
        with self.chunk.open("rb") as file:
            footer = self._footer(file)
            ranges = footer.layout.ranges
            by_group: dict[int, list[StepEntry]] = {}
            for entry in entries:
                by_group.setdefault(entry.group, []).append(entry)
            listed = [(group[0].group_begin, group[0].group_end) for group in by_group.values()]
            if listed != ranges:
                where = "byte ranges of row groups"
                yield ChunkProblem(
                    code="ranges", where=where, expected=_short(ranges) + " (footer)", found=_short(listed)
                )
                return
            for index, group in by_group.items():
                yield from self._group(file, footer, index, group)
        found_digest = self.digest.hexdigest()
        if self.whole and found_digest != record.rows_sha256:
            yield ChunkProblem(
                code="rows_digest", where="ids of all rows", expected=record.rows_sha256, found=found_digest
            )

    def _footer(self, file: BinaryIO) -> Footer:
        size = file.seek(0, 2)
        begin = self.table.data_end
        if not begin + TAIL_BYTES <= size <= begin + MAX_FOOTER_BYTES:
            raise ChunkFileError(self.chunk.name, f"it has {size} bytes, its step table ends at byte {begin}")
        file.seek(0)
        if file.read(4) != b"PAR1":
            raise ChunkFileError(self.chunk.name, "it does not begin as a Parquet file does")
        file.seek(begin)
        return Footer(self.chunk.name, file.read(size - begin), begin)

    def _group(self, file: BinaryIO, footer: Footer, index: int, entries: list[StepEntry]) -> Iterator[ChunkProblem]:
        first = entries[0]
        where = f"row group {index}"
        file.seek(first.group_begin)
        data = file.read(first.group_end - first.group_begin)
        found = hashlib.sha256(data).hexdigest()
        if found != first.group_sha256:
            # The decoder does not see bytes that are known to be others.
            self.whole = False
            yield ChunkProblem(code="group_digest", where=where, expected=first.group_sha256, found=found)
            return
        try:
            table = decode_rows(footer, index, data)
        except ChunkFileError as error:
            self.whole = False
            yield _broken(where, error.problem)
            return
        ids = flat_ids(table)
        self.tally.add(ids)
        self.digest.update(little_endian_ids(ids))
        shape_problems = list(self._shape(table, ids, entries, where))
        yield from shape_problems
        yield from self._documents(table, where)
        if not shape_problems:
            yield from self._batches(ids, entries)

    def _shape(
        self, table: pa.Table, ids: NDArray[Any], entries: list[StepEntry], where: str
    ) -> Iterator[ChunkProblem]:
        rows = np.arange(entries[0].first_row, entries[-1].end_row, dtype=np.int64)
        steps = np.repeat([e.step for e in entries], [e.end_row - e.first_row for e in entries])
        for code, column, wanted in (("rows", "row", rows), ("steps", "step", steps)):
            values = table.column(column).combine_chunks()
            if values.null_count or not np.array_equal(values.to_numpy(zero_copy_only=False), wanted):
                expected = f"{wanted[0]} to {wanted[-1]} in {len(wanted)} rows"
                yield ChunkProblem(
                    code=code, where=f"{where}, column '{column}'", expected=expected, found=_short(values.to_pylist())
                )
        lists = table.column("token_ids").combine_chunks()
        lengths = np.diff(lists.offsets.to_numpy())
        wrong = np.flatnonzero(lengths != self.record.row_len)
        if lists.null_count or lists.values.null_count or len(wrong):
            found = f"{lengths[wrong[0]]} in row {wrong[0]} of the group" if len(wrong) else "missing values"
            yield ChunkProblem(code="row_len", where=where, expected=f"{self.record.row_len} ids a row", found=found)
        if self.vocabulary is not None and len(ids) and ids.max() >= self.vocabulary:
            yield ChunkProblem(
                code="ids", where=where, expected=f"ids below {self.vocabulary}", found=f"id {ids.max()}"
            )

    def _documents(self, table: pa.Table, where: str) -> Iterator[ChunkProblem]:
        """The spans of each row must begin at 0, touch, and end at its last id."""
        lists = table.column("documents").combine_chunks()
        spans = lists.flatten()
        parts = {name: spans.field(name) for name in ("source", "id", "start", "length", "offset")}
        if lists.null_count or spans.null_count or any(part.null_count for part in parts.values()):
            yield ChunkProblem(code="documents", where=where, expected="spans without holes", found="missing values")
            return
        start, length, offset = (parts[n].to_numpy().astype(np.int64) for n in ("start", "length", "offset"))
        borders = lists.offsets.to_numpy() - lists.offsets[0].as_py()
        firsts, lasts = borders[:-1], borders[1:] - 1
        held = bool((lasts >= firsts).all() and (length > 0).all() and (offset >= 0).all())
        expected_start = np.zeros(len(start), dtype=np.int64)
        if held and len(start):
            expected_start[1:] = (start + length)[:-1]
            expected_start[firsts] = 0
            ends = (start + length)[lasts]
            held = bool(np.array_equal(start, expected_start) and (ends == self.record.row_len).all())
        if not held:
            yield ChunkProblem(
                code="documents", where=where, expected="spans that cover each row", found="gaps, overlaps or no spans"
            )

    def _batches(self, ids: NDArray[Any], entries: list[StepEntry]) -> Iterator[ChunkProblem]:
        origin, row_len = entries[0].first_row, self.record.row_len
        for entry in entries:
            begin, end = (entry.first_row - origin) * row_len, (entry.end_row - origin) * row_len
            found = hashlib.sha256(little_endian_ids(ids[begin:end])).hexdigest()
            if found != entry.ids_sha256:
                yield ChunkProblem(
                    code="batch_digest", where=f"ids of step {entry.step}", expected=entry.ids_sha256, found=found
                )


def _short(values: list[Any]) -> str:
    text = ", ".join(str(value) for value in values[:4])
    return f"{text}, … ({len(values)})" if len(values) > 4 else text or "none"
