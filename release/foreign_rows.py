"""Rows of a foreign release in the order of training: what reading them takes, and the rows batch by batch.

Memory: a batch (of one of more than `PIECE_IDS` ids a part), and what the readers hold. A million batches are planned
and read as well as one: spans are made as they are needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from open360.release.corpus.chunk_file import little_endian_ids
from open360.release.foreign_selection import Chosen
from open360.release.formats.rows import Ids, RowBlock
from open360.release.order.file_rows import RowSpan
from open360.release.read_plan import ReadPlan
from open360.release.row_files import id_type
from open360.release.row_sources import TrainingRows
from open360.release.targets import TargetError
from open360.schema.errors import IntegrityError

PIECE_IDS = 8 << 20
WINDOW_ROWS = 1 << 16
SPANS_AT_A_TIME = 4096


class NoSourcesError(TargetError):
    """The rows do not say which source they are from."""


@dataclass(frozen=True, kw_only=True)
class RowPiece:
    """Rows of one batch, in the order of training: `first_row` is the number of the first one in the run.

    `is_whole`: all of the batch; `is_last`: no more of it is asked for.
    """

    step: int
    first_row: int
    ids: Ids
    sources: tuple[str | None, ...] | None
    is_last: bool
    is_whole: bool


def spans_of(rows: TrainingRows, chosen: Chosen) -> Iterator[RowSpan]:
    """Where the chosen rows lie, in the order of training, neighbours joined. Raises what the resolver raises."""
    left, skip = chosen.rows or 0, chosen.skipped_rows
    held: RowSpan | None = None
    for span in _spans_of_steps(rows, chosen):
        first = min(span.first_row + skip, span.end_row)
        skip -= first - span.first_row
        end = min(first + left, span.end_row)
        left -= end - first
        if first == end:
            continue
        if held is not None and held.file == span.file and held.end_row == first:
            held = held._replace(end_row=end)
        else:
            if held is not None:
                yield held
            held = RowSpan(span.file, first, end)
    if held is not None:
        yield held


def _spans_of_steps(rows: TrainingRows, chosen: Chosen) -> Iterator[RowSpan]:
    batch = rows.run.batch
    assert batch is not None  # noqa: S101 (or the order were unresolvable)
    step = chosen.first_step
    while step < chosen.end_step:
        end = min(step + max(WINDOW_ROWS // batch.at(step), 1), chosen.end_step)
        yield from rows.resolver.rows(step, end)
        step = end


def plan_rows(rows: TrainingRows, chosen: Chosen) -> ReadPlan:
    """What reading the chosen rows takes. No row is read."""
    plan = ReadPlan()
    spans = spans_of(rows, chosen)
    while some := list(islice(spans, SPANS_AT_A_TIME)):
        reading = rows.reader.reading(some)
        for span in reading.reads:
            plan.add(span, estimated=reading.estimated)
    return plan


def read_pieces(rows: TrainingRows, chosen: Chosen) -> Iterator[RowPiece]:
    """The chosen rows, batch by batch. Raises what readers and resolver raise."""
    if chosen.source is not None and rows.corpus.row is not None and rows.corpus.row.source is None:
        raise NoSourcesError(
            f"rows of corpus '{rows.corpus.name}' do not say which source they are from: expected a field 'source' in "
            "its 'row', found none; leave out --source"
        )
    return cut_pieces(rows, chosen, rows.reader.blocks(spans_of(rows, chosen)))


def cut_pieces(rows: TrainingRows, chosen: Chosen, blocks: Iterable[RowBlock]) -> Iterator[RowPiece]:
    """Blocks of the chosen rows, cut where batches end. Raises IntegrityError when there are too few or too many."""
    supply = _Supply(blocks)
    batch, row, left = rows.run.batch, chosen.first_row or 0, chosen.rows or 0
    assert batch is not None  # noqa: S101
    at_a_time = max(PIECE_IDS // rows.reader.row_len, 1)
    skipped = chosen.skipped_rows
    for step in range(chosen.first_step, chosen.end_step):
        size = batch.at(step)
        count = min(size - skipped, left)
        is_whole = count == size
        left, skipped = left - count, 0
        while count:
            ids, sources = supply.take(min(count, at_a_time))
            taken = len(ids)
            count -= taken
            yield RowPiece(step=step, first_row=row, ids=ids, sources=sources, is_last=not count, is_whole=is_whole)
            del ids, sources  # before the next ones are put together
            row += taken
    supply.end()


class _Supply:
    """Takes rows out of blocks."""

    def __init__(self, blocks: Iterable[RowBlock]) -> None:
        self._blocks = iter(blocks)
        self._rest: RowBlock | None = None

    def take(self, count: int) -> tuple[Ids, tuple[str | None, ...] | None]:
        parts: list[Ids] = []
        labels: list[str | None] = []
        has_labels = False
        while count:
            block = self._rest if self._rest is not None else next(self._blocks, None)
            if block is None:
                raise IntegrityError("the data", f"{count} rows more", "their end", "see 'open360 validate'")
            taken = min(count, len(block.ids))
            parts.append(block.ids[:taken])
            if block.sources is not None:
                has_labels = True
                labels += block.sources[:taken]
            rest = block.sources[taken:] if block.sources is not None else None
            self._rest = RowBlock(block.ids[taken:], rest) if taken < len(block.ids) else None
            count -= taken
        ids = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return ids, tuple(labels) if has_labels else None

    def end(self) -> None:
        if self._rest is not None or next(self._blocks, None) is not None:
            raise IntegrityError("the data", "the rows that were asked for", "more of them", "this is a bug: report it")


class BatchDigests:
    """Digests of batches as they go by, compared with those that the spec states (`golden_batches`); no id may lie
    beyond the model's vocabulary.

    Attributes:
        found: digest of each batch that was asked for whole.
        proved: batches that the spec states and that came out equal.
    """

    def __init__(self, rows: TrainingRows) -> None:
        self._rows = rows
        self._golden = {golden.step: golden.sha256 for golden in rows.run.golden_batches}
        self._open = hashlib.sha256()
        size = rows.run.architecture.get("vocab_size")
        self._vocabulary = size if isinstance(size, int) else None
        self.found: dict[int, str] = {}
        self.proved: list[int] = []

    def watch(self, pieces: Iterable[RowPiece]) -> Iterator[RowPiece]:
        """The same pieces. Raises IntegrityError before a batch is given that is not the one that the spec states."""
        for piece in pieces:
            self._check_ids(piece)
            self._open.update(little_endian_ids(piece.ids))
            if piece.is_last:
                digest, self._open = self._open.hexdigest(), hashlib.sha256()
                if piece.is_whole:
                    self._compare(piece.step, digest)
            yield piece
            del piece

    def _check_ids(self, piece: RowPiece) -> None:
        """A model has no weights for an id beyond its vocabulary: what holds one is no row of its training."""
        highest = int(piece.ids.max()) if piece.ids.size and self._vocabulary is not None else -1
        if self._vocabulary is not None and highest >= self._vocabulary:
            raise IntegrityError(
                f"batch {piece.step} of run '{self._rows.run.name}'",
                f"ids below its vocabulary of {self._vocabulary}",
                str(highest),
                "the order, the data or the spec is another one; see 'open360 validate'",
            )

    def _compare(self, step: int, digest: str) -> None:
        self.found[step] = digest
        expected = self._golden.get(step)
        if expected is None:
            return
        if digest != expected:
            raise IntegrityError(
                f"batch {step} of run '{self._rows.run.name}'",
                f"sha256 {expected} of its ids, as the spec states",
                digest,
                "the order, the data or the spec is another one; see 'open360 validate'",
            )
        self.proved.append(step)


def row_schema(rows: TrainingRows) -> pa.Schema:
    """Columns of rows of others; ids are as narrow as they are stored."""
    row = rows.corpus.row
    ids = pa.uint16() if row is not None and row.dtype == "uint16" else pa.uint32()
    columns = [("row", pa.int64()), ("step", pa.int64()), ("token_ids", pa.list_(ids))]
    if row is not None and row.source is not None:
        columns.append(("source", pa.string()))
    return pa.schema(columns)


def tables_of(pieces: Iterable[RowPiece], schema: pa.Schema, source: str | None) -> Iterator[pa.Table]:
    """Pieces as tables of a schema, only with rows of a source where one is named."""
    for piece in pieces:
        count, row_len = piece.ids.shape
        ends = _numbers(np.arange(count + 1, dtype=np.int32) * np.int32(row_len), pa.int32())
        ids = _numbers(
            piece.ids.reshape(-1).astype(id_type(schema), copy=False), schema.field("token_ids").type.value_type
        )
        columns = [
            _numbers(np.arange(piece.first_row, piece.first_row + count, dtype=np.int64), pa.int64()),
            _numbers(np.full(count, piece.step, dtype=np.int64), pa.int64()),
            pa.ListArray.from_arrays(ends, ids),
        ]
        if "source" in schema.names:
            columns.append(pa.array(piece.sources or [None] * count, pa.string()))
        table = pa.Table.from_arrays(columns, schema=schema)
        if source is not None:
            kept = np.array([label == source for label in piece.sources or ()], dtype=bool)
            table = table.filter(pa.array(kept)) if not kept.all() else table
        del piece, ends, ids, columns
        yield table
        del table


def _numbers(numbers: NDArray[Any], kind: pa.DataType) -> pa.Array:
    """An array over the same memory; `pa.array` would copy it, and import pandas."""
    return pa.Array.from_buffers(kind, len(numbers), [None, pa.py_buffer(numbers)])
