"""The ids of one batch of a release that others made, read from its published data by its declared order.

A batch is read by the ranges that its rows lie in; what its order needs besides (a part of an index file, a shuffle) is
bounded too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.foreign_data import CorpusFiles, DataFile, files_of, read_part, row_bytes, with_sizes
from open360.release.evidence.order_files import array_of, order_files
from open360.release.evidence.order_files import read_part as read_index
from open360.release.order.json_rows import lines_between, parse_row
from open360.release.order.shuffles import MAX_ROWS, pcg64_shuffle
from open360.release.order.spans import OrderError, Shards, Span, spans
from open360.release.remote_listing import at_once
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, RowFormat
from open360.schema.order import ChunkOrder, FunctionOrder, MaterializedOrder, PermutationFileOrder
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, rows_at

MAX_BATCH_BYTES = 64 << 20
MAX_LINES_BYTES = 256 << 20  # read of a file of JSON lines to come to a row
_DTYPES = {"uint16": "<u2", "uint32": "<u4", "int32": "<i4"}


def ids_of_batch(release: ReleaseView, run: Run, step: int) -> NDArray[np.uint32]:
    """Ids of batch `step`, row after row. Raises OrderError when they cannot be found or had, HubError."""
    corpus = release.spec.corpus_of(run)
    if corpus is None or corpus.row is None:
        raise OrderError(run.name, "its rows are not described")
    try:
        first, end = rows_at(run, step), rows_at(run, step + 1)
    except ScheduleError as error:
        raise OrderError(run.name, str(error)) from error
    found = files_of(release, corpus)
    if found is None:
        raise OrderError(corpus.name, "where its files are is not declared")
    if isinstance(run.order, ChunkOrder):
        return _of_chunk(release, found, corpus.row, run.order, first, end)
    found = with_sizes(release, found)
    size = row_bytes(corpus)
    if not found.is_whole or size is None:
        raise OrderError(corpus.name, "not all of its files are there as raw rows with known sizes")
    if (end - first) * size > MAX_BATCH_BYTES:
        raise OrderError(run.name, f"a batch of {(end - first) * size} bytes, read are at most {MAX_BATCH_BYTES}")
    wanted = _spans(release, run, found, corpus, first, end)
    return _read(release, found, wanted, corpus.row)


def _spans(release: ReleaseView, run: Run, found: CorpusFiles, corpus: Corpus, first: int, end: int) -> list[Span]:
    size = row_bytes(corpus) or 1
    shards, is_stream = Shards(found.stored(), size), corpus.row is not None and corpus.row.format == "bin"
    order = run.order
    if isinstance(order, MaterializedOrder):
        first, end = first + order.first_row, end + order.first_row
        if is_stream:
            return spans(found.stored(), size, first, end)
        return [shards.span(row) for row in range(first, end)]
    if isinstance(order, PermutationFileOrder) and order.format == "raw-uint32":
        return [shards.span(row) for row in _stored_order(release, run, first, end)]
    if isinstance(order, FunctionOrder) and order.algorithm == "numpy-pcg64-shuffle":
        if order.chunk_rows != 1 or not order.resolvable or order.seed is None:
            raise OrderError(run.name, "its order cannot be computed from what is declared")
        first, end = first + order.first_row, end + order.first_row
        if end > shards.rows or shards.rows > MAX_ROWS:
            raise OrderError(run.name, f"its order is computed for the first epoch of at most {MAX_ROWS} rows only")
        return [shards.span(int(row)) for row in pcg64_shuffle(shards.rows, order.seed, order.epoch_base)[first:end]]
    raise OrderError(run.name, f"batches of an order of kind '{order.kind}' are not read")


def _stored_order(release: ReleaseView, run: Run, first: int, end: int) -> list[int]:
    """Entries `[first, end)` of the index file of a run."""
    file = next((f for f in order_files(release) if f.order == run.order and f.part == "indices" and f.is_there), None)
    if file is None:
        raise OrderError(run.name, "its order file is not there")
    begin, dtype, entries = array_of(release, file)
    if end > entries:
        raise OrderError(run.name, f"its order file holds {entries} entries, this batch is beyond them")
    data = read_index(release, file, begin + first * dtype.itemsize, begin + end * dtype.itemsize)
    return [int(row) for row in np.frombuffer(data, dtype=dtype)]


def _read(release: ReleaseView, found: CorpusFiles, wanted: Sequence[Span], row: RowFormat) -> NDArray[np.uint32]:
    files = {file.name: file for file in found.files}

    def read(span: Span) -> bytes:
        try:
            return read_part(release, files[span.path], span.begin, span.end)
        except (AddressError, TargetError) as error:
            raise OrderError(span.path, f"bytes {span.begin} to {span.end} cannot be read ({error})") from error

    parts = at_once(read, _joined(wanted))
    return np.frombuffer(b"".join(parts), dtype=_DTYPES[row.dtype]).astype(np.uint32)


def _joined(wanted: Sequence[Span]) -> list[Span]:
    """The same bytes in the same order, neighbours as one span."""
    found: list[Span] = []
    for span in wanted:
        if found and found[-1].path == span.path and found[-1].end == span.begin:
            found[-1] = found[-1]._replace(end=span.end)
        else:
            found.append(span)
    return found


def _of_chunk(
    release: ReleaseView, found: CorpusFiles, row: RowFormat, order: ChunkOrder, first: int, end: int
) -> NDArray[np.uint32]:
    """Rows `[first, end)` of a run that trains chunk by chunk, in the order of the lines."""
    chunk, files = first // order.rows_used, found.corpus.files
    if order.within.kind != "file" or row.format != "jsonl" or files is None or files.pattern is None:
        raise OrderError(found.corpus.name, "the order inside its chunks cannot be read")
    if (end - 1) // order.rows_used != chunk or chunk >= len(order.sequence()):
        raise OrderError(found.corpus.name, "the batch lies in two chunks, or in none")
    name = files.file(order.sequence()[chunk])
    file = next((file for file in found.files if file.name == name and file.bytes is not None), None)
    if file is None:
        raise OrderError(name, "it is not there")
    return _lines(release, file, row, first - chunk * order.rows_used, end - chunk * order.rows_used)


def _lines(release: ReleaseView, file: DataFile, row: RowFormat, first: int, end: int) -> NDArray[np.uint32]:
    size = file.bytes or 0
    taken: list[NDArray[np.uint32]] = []
    try:
        lines = lines_between(
            file.name, lambda a, b: read_part(release, file, a, b), 0, min(size, MAX_LINES_BYTES), size
        )
        for number, line in enumerate(lines):
            if number >= first:
                taken.append(parse_row(file.name, line, ids=row.ids, source=row.source).ids)
            if number == end - 1:
                return np.concatenate(taken)
    except (AddressError, TargetError) as error:
        raise OrderError(file.name, f"it cannot be read ({error})") from error
    raise OrderError(file.name, f"its rows {first} to {end} are not in its first {MAX_LINES_BYTES} bytes")
