"""Reads into the data files of others: a bounded part of each sampled file, once for all rules.

A file that is small is read whole; of a larger one a few parts: its beginning (which shows the sources of its first
rows), its end, and places between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from open360.release.corpus.bounded_parquet import Footer
from open360.release.corpus.id_tally import IdTally
from open360.release.corpus.parquet_layout import MAGIC, TAIL_BYTES, ChunkFileError
from open360.release.evidence.addresses import AddressError
from open360.release.evidence.foreign_data import (
    ITEM_BYTES,
    RAW_FORMATS,
    DataFile,
    declared_files,
    files_of,
    read_part,
    with_sizes,
)
from open360.release.order.json_rows import lines_between, parse_row
from open360.release.order.npy_header import HEAD_BYTES, has_npy_header, parse_npy_header
from open360.release.order.spans import OrderError
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, RowFormat

MAX_CORPUS_BYTES = 256 << 20
MAX_PART_BYTES, MIN_PART_BYTES = 32 << 20, 1 << 20
MAX_FOOTER_BYTES = 16 << 20
MAX_GROUP_BYTES = 64 << 20
PARTS = 4
SCANNED_FORMATS = (*RAW_FORMATS, "jsonl", "parquet")
_DTYPES = {"uint16": "<u2", "uint32": "<u4", "int32": "<i4"}


@dataclass(kw_only=True)
class FileScan:
    """What was read of a file.

    `rows` is known when it was read whole, or its footer says so. `first` and `last` are the sources of the rows at its
    beginning and (backwards) at its end. `problem` is the first thing that is no row of the declared form.
    """

    file: DataFile
    tally: IdTally
    whole: bool = False
    rows: int | None = None
    first: list[str | None] = field(default_factory=list)
    last: list[str | None] = field(default_factory=list)
    problem: str | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusScan:
    """What was read of a corpus; `whole` when every row was."""

    corpus: Corpus
    scans: tuple[FileScan, ...]
    tally: IdTally
    whole: bool


_SCANS: WeakKeyDictionary[ReleaseView, dict[str, CorpusScan]] = WeakKeyDictionary()


def special_ids(corpus: Corpus) -> dict[str, int]:
    """Ids that have to occur in the rows of a corpus: what stands between documents."""
    if corpus.tokenizer is None:
        return {}
    declared = corpus.tokenizer.special_ids
    if declared.separator is not None:
        return {"separator": declared.separator}
    return {"end of text": declared.eos} if declared.eos is not None else {}


def scans(release: ReleaseView) -> list[CorpusScan]:
    """Every corpus of a foreign release whose rows can be read. Raises HubError."""
    if release.foreign is None:
        return []
    known = _SCANS.setdefault(release, {})
    found = []
    for _, corpus, _ in declared_files(release):
        if corpus.row is not None and corpus.row.format in SCANNED_FORMATS:
            if corpus.name not in known:
                known[corpus.name] = _scan(release, corpus, corpus.row)
            found.append(known[corpus.name])
    return [scan for scan in found if scan.scans]


def _scan(release: ReleaseView, corpus: Corpus, row: RowFormat) -> CorpusScan:
    found = files_of(release, corpus)
    distinct = {file.name: file for file in found.files} if found is not None else {}
    chosen = release.sampled(distinct.values(), lambda file: file.name)
    if found is not None and chosen:
        names = {file.name for file in chosen}
        sized = {file.name: file for file in with_sizes(release, found, chosen).files if file.name in names}
        chosen = [file for file in sized.values() if file.bytes is not None]
    budget = min(max(MAX_CORPUS_BYTES // max(len(chosen), 1), MIN_PART_BYTES), MAX_PART_BYTES)
    scans, tally = [], IdTally(special_ids(corpus).values())
    for number, file in enumerate(chosen, 1):
        scan = FileScan(file=file, tally=IdTally(tally.seen))
        try:
            _read(release, scan, row, budget)
        except (AddressError, TargetError):
            continue  # that it is gone, or shorter, is what other rules tell
        except OrderError as error:
            scan.problem = error.problem
        tally.take_over(scan.tally)
        scans.append(scan)
        if release.progress is not None:
            release.progress(number, len(chosen), file.name.rsplit("/", 1)[-1])
    whole = len(scans) == len(distinct) and all(scan.whole for scan in scans)
    return CorpusScan(corpus=corpus, scans=tuple(scans), tally=tally, whole=whole)


def _read(release: ReleaseView, scan: FileScan, row: RowFormat, budget: int) -> None:
    if row.format == "jsonl":
        _read_lines(release, scan, row, budget)
    elif row.format == "parquet":
        _read_parquet(release, scan, row)
    elif row.dtype in ITEM_BYTES:
        _read_raw(release, scan, row, budget)


def _parts(begin: int, end: int, budget: int, unit: int) -> list[tuple[int, int]]:
    """At most `budget` bytes of `[begin, end)`, spread over it, cut at whole units counted from `begin`."""
    units, wanted = (end - begin) // unit, budget // unit
    if units <= wanted:
        return [(begin, begin + units * unit)] if units else []
    each = max(wanted // PARTS, 1)
    starts = [(units - each) * part // (PARTS - 1) for part in range(PARTS)]
    return [(begin + start * unit, begin + (start + each) * unit) for start in dict.fromkeys(starts)]


def _read_raw(release: ReleaseView, scan: FileScan, row: RowFormat, budget: int) -> None:
    file, size, begin = scan.file, scan.file.bytes or 0, 0
    if row.format == "npy":
        head = read_part(release, file, 0, min(HEAD_BYTES, size))
        if has_npy_header(head):
            begin = parse_npy_header(file.name, head, size).begin
    parts = _parts(begin, size, budget, ITEM_BYTES[row.dtype])
    for first, end in parts:
        scan.tally.add(np.frombuffer(read_part(release, file, first, end), dtype=_DTYPES[row.dtype]))
    scan.whole = len(parts) <= 1


def _read_lines(release: ReleaseView, scan: FileScan, row: RowFormat, budget: int) -> None:
    size = scan.file.bytes or 0
    scan.whole = size == 0
    for begin, end in _parts(0, size, budget, 1):
        labels = []
        for ids, source in _json_rows(release, scan, row, begin, end):
            labels.append(source)
            scan.tally.add(ids)
        if begin == 0:
            scan.first = labels
        if end == size:
            scan.last = labels[::-1]
        scan.whole = (begin, end) == (0, size)
    if scan.whole:
        scan.rows = len(scan.first)


def _json_rows(
    release: ReleaseView, scan: FileScan, row: RowFormat, begin: int, end: int
) -> Iterator[tuple[NDArray[np.uint32], str | None]]:
    file, size = scan.file, scan.file.bytes or 0
    for line in lines_between(file.name, lambda a, b: read_part(release, file, a, b), begin, end, size):
        try:
            found = parse_row(file.name, line, ids=row.ids, source=row.source)
        except OrderError as error:
            scan.problem = scan.problem or error.problem
            continue
        if len(found.ids) != row.row_len:
            scan.problem = scan.problem or f"a row of {len(found.ids)} ids, declared are {row.row_len}"
        yield found.ids, found.source


def _read_parquet(release: ReleaseView, scan: FileScan, row: RowFormat) -> None:
    """The number of rows, and the ids of the first row group."""
    file = scan.file
    try:
        footer = parquet_footer(release, file)
        scan.rows = footer.layout.rows
        for index, (begin, end) in enumerate(footer.layout.ranges[:1]):
            if end - begin <= MAX_GROUP_BYTES:
                scan.tally.add(_ids_of(footer, index, read_part(release, file, begin, end), row))
                scan.whole = len(footer.layout.ranges) == 1
    except ChunkFileError as error:
        scan.problem = error.problem


def parquet_footer(release: ReleaseView, file: DataFile) -> Footer:
    """The footer of a Parquet file of others. Raises ChunkFileError, AddressError, TargetError, HubError."""
    size = file.bytes or 0
    tail = read_part(release, file, max(size - TAIL_BYTES, 0), size)
    length = int.from_bytes(tail[:4], "little") + TAIL_BYTES
    if len(tail) != TAIL_BYTES or tail[4:] != MAGIC or not TAIL_BYTES < length <= min(size, MAX_FOOTER_BYTES):
        raise ChunkFileError(file.name, "it does not end as a Parquet file does, or its footer is too large")
    return Footer(file.name, read_part(release, file, size - length, size), size - length)


def _ids_of(footer: Footer, group: int, data: bytes, row: RowFormat) -> NDArray[Any]:
    table = footer.decode(group, data)
    if row.ids not in table.column_names:
        raise ChunkFileError(footer.name, f"expected a column '{row.ids}', found {table.column_names[:8]}")
    column = table.column(row.ids).combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ChunkFileError(footer.name, f"expected lists of ids in '{row.ids}', found {str(column.type)[:60]}")
    values = column.flatten()
    if not pa.types.is_integer(values.type) or values.null_count:
        raise ChunkFileError(footer.name, f"expected whole numbers in '{row.ids}', found {str(values.type)[:60]}")
    return np.asarray(values.to_numpy(zero_copy_only=False))
