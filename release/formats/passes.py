"""Rows of a file that can only be read forwards: one pass for several requests, whatever their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from open360.release.formats.rows import RowBlock
from open360.release.order.file_rows import RowSpan

COLLECTED_BYTES = 64 << 20  # of rows that were asked for out of order, and so are kept until their turn

PlaceT = TypeVar("PlaceT")
Pass = Callable[[int, int], Iterator[RowBlock]]
"""`(first, end)` to blocks of rows `[first, end)` of one file, in the order of the file."""


def requests_by(wanted: Iterable[tuple[PlaceT, RowSpan]], row_bytes: int) -> Iterator[tuple[PlaceT, list[RowSpan]]]:
    """Neighbouring requests in the same place, together; as many as may be kept at a time."""
    here: PlaceT | None = None
    requests: list[RowSpan] = []
    held = 0
    for place, rows in wanted:
        size = (rows.end_row - rows.first_row) * row_bytes
        if here is not None and requests and (place != here or held + size > COLLECTED_BYTES):
            yield here, requests
            requests, held = [], 0
        here = place
        requests.append(rows)
        held += size
    if here is not None and requests:
        yield here, requests


def in_one_pass(requests: Sequence[RowSpan], run: Pass, row_len: int) -> Iterator[RowBlock]:
    """The rows of each request, in the order of the requests, from one pass over the file."""
    if len(requests) == 1:
        yield from run(requests[0].first_row, requests[0].end_row)
        return
    first, end = min(rows.first_row for rows in requests), max(rows.end_row for rows in requests)
    kept = [np.empty((rows.end_row - rows.first_row, row_len), dtype=np.uint32) for rows in requests]
    sources: list[list[str | None]] = [[] for _ in requests]
    at = first
    for block in run(first, end):
        stop = at + len(block.ids)
        for rows, ids, labels in zip(requests, kept, sources, strict=True):
            low, high = max(rows.first_row, at), min(rows.end_row, stop)
            if low < high:
                ids[low - rows.first_row : high - rows.first_row] = block.ids[low - at : high - at]
                labels += block.sources[low - at : high - at] if block.sources is not None else ()
        at = stop
    for ids, labels in zip(kept, sources, strict=True):
        yield RowBlock(ids, tuple(labels) if labels else None)
