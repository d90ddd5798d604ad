"""The stream of ids in training order, cut into rows with the documents that each row holds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from open360.release.corpus.chunk_file import ID_TYPES, SPAN, Batch, chunk_schema
from open360.release.corpus.order_file import OrderedDocument
from open360.schema.corpus import RowFormat


class RowStream:
    """Joins documents and cuts rows exactly: row *i* is the ids `[i * row_len, (i + 1) * row_len)` of the stream.

    Args:
        documents: in training order, ids with their separator.
        sources: names of the sources by number.
        row: length and type of a row.
    """

    def __init__(self, documents: Iterator[OrderedDocument], sources: Sequence[str], row: RowFormat) -> None:
        self._documents, self._row = documents, row
        self._sources = pa.array(sources, pa.string())
        self._schema = chunk_schema(row.dtype)
        self._open: deque[tuple[OrderedDocument, int]] = deque()  # documents with ids left, and their place
        self._end = 0  # where the last document ends in the stream

    def take(self, batches: Sequence[Batch]) -> pa.Table:
        """The rows of neighbouring batches, as a table of `chunk_schema`; the stream must hold that many ids."""
        row_len = self._row.row_len
        first_row, end_row = batches[0].first_row, batches[-1].end_row
        begin, end = first_row * row_len, end_row * row_len
        while self._end < end:
            document = next(self._documents)
            self._open.append((document, self._end))
            self._end += len(document.ids)
        held = [(d, place) for d, place in self._open if place < end]
        ids = np.concatenate([d.ids[max(begin - place, 0) : end - place] for d, place in held])
        spans, spans_by_row = self._spans(held, begin, end)
        while self._open and self._open[0][1] + len(self._open[0][0].ids) <= end:
            self._open.popleft()
        rows = end_row - first_row
        steps = np.repeat([b.step for b in batches], [b.end_row - b.first_row for b in batches]).astype(np.int32)
        row_ends = np.arange(rows + 1, dtype=np.int32) * np.int32(row_len)
        columns = [
            pa.array(np.arange(first_row, end_row, dtype=np.int64)),
            pa.array(steps),
            pa.ListArray.from_arrays(pa.array(row_ends), pa.array(ids, ID_TYPES[self._row.dtype])),
            pa.ListArray.from_arrays(pa.array(spans_by_row), spans),
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _spans(
        self, held: list[tuple[OrderedDocument, int]], begin: int, end: int
    ) -> tuple[pa.StructArray, NDArray[Any]]:
        """Which documents lie in ids `[begin, end)` of the stream, cut at rows; and where each row's spans start."""
        row_len = self._row.row_len
        places = np.array([place for _, place in held], dtype=np.int64)
        cuts = np.union1d(np.maximum(places, begin), np.arange(begin, end, row_len, dtype=np.int64))
        documents = np.searchsorted(places, cuts, side="right") - 1
        rows = cuts // row_len
        names = pa.array([d.id for d, _ in held], pa.string())
        numbers = np.array([d.source for d, _ in held], dtype=np.int32)
        spans = pa.StructArray.from_arrays(
            [
                self._sources.take(pa.array(numbers[documents])),
                names.take(pa.array(documents)),
                pa.array((cuts - rows * row_len).astype(np.int32)),
                pa.array(np.diff(cuts, append=end).astype(np.int32)),
                pa.array(cuts - places[documents]),
            ],
            fields=list(SPAN),
        )
        first_row = begin // row_len
        starts = np.searchsorted(rows, np.arange(first_row, end // row_len + 1)).astype(np.int32)
        return spans, starts
