"""The chunk file and its step table: columns, row groups of whole steps, digests. Written here, read in `release.rows`.

A chunk is a Parquet file of consecutive rows of a run's training order. A row group holds whole steps, so that a batch
lies in one contiguous byte range; the step table says where, with a digest of that range and of the batch's ids.

Dictionary encoding and statistics are off (49 % instead of 18 % above seekable zstd of raw ids, and bytes that differ
by writer), level and format version are pinned: the bytes are the same over processes and threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from open360.release.corpus.parquet_layout import TAIL_BYTES, read_layout
from open360.schema.atomic import replacing_file

GROUP_IDS_BYTES = 64 << 10  # a row group holds at least so many bytes of ids, where steps allow
ID_TYPES = {"uint16": pa.uint16(), "uint32": pa.uint32()}
PARQUET_OPTIONS: dict[str, Any] = {
    "version": "2.6",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_index": False,
    "data_page_version": "1.0",
    "store_schema": True,
}
SPAN = pa.struct(
    [
        ("source", pa.string()),
        ("id", pa.string()),
        ("start", pa.int32()),
        ("length", pa.int32()),
        ("offset", pa.int64()),
    ]
)
STEP_TABLE_SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("first_row", pa.int64()),
        ("end_row", pa.int64()),
        ("group", pa.int32()),
        ("group_begin", pa.int64()),
        ("group_end", pa.int64()),
        ("group_sha256", pa.string()),
        ("ids_sha256", pa.string()),
    ]
)


def chunk_schema(dtype: str) -> pa.Schema:
    """Columns of a chunk whose ids have `dtype` (`uint16` or `uint32`).

    `documents` lists which documents the row holds: `length` ids (separators included) from position `start` of the
    row are the ids from index `offset` on of document `id` of `source`.
    """
    ids = pa.list_(ID_TYPES[dtype])
    return pa.schema([("row", pa.int64()), ("step", pa.int32()), ("token_ids", ids), ("documents", pa.list_(SPAN))])


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Step `step` of a run: rows `[first_row, end_row)` of its training order."""

    step: int
    first_row: int
    end_row: int


@dataclass(frozen=True, kw_only=True)
class Group:
    """The batches of one row group, and its rows as a table of `chunk_schema`."""

    batches: tuple[Batch, ...]
    table: pa.Table


@dataclass(frozen=True, kw_only=True)
class ChunkFacts:
    """What a chunk holds: half-open ranges, bytes of the file, digest of its rows."""

    first_step: int
    end_step: int
    first_row: int
    end_row: int
    bytes: int
    rows_sha256: str


def group_batches(batches: Iterable[Batch], row_len: int, itemsize: int) -> Iterator[tuple[Batch, ...]]:
    """Split batches into row groups: each the fewest whole steps with `GROUP_IDS_BYTES` of ids, the last the rest."""
    group: list[Batch] = []
    size = 0
    for batch in batches:
        group.append(batch)
        size += (batch.end_row - batch.first_row) * row_len * itemsize
        if size >= GROUP_IDS_BYTES:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def little_endian_ids(ids: NDArray[Any]) -> memoryview:
    """Ids as the digests take them: little-endian uint32, one after the other."""
    return np.ascontiguousarray(ids, dtype="<u4").reshape(-1).view(np.uint8).data


def flat_ids(table: pa.Table) -> NDArray[Any]:
    """All ids of a chunk's rows, one after the other, in their stored type."""
    column = table.column("token_ids").combine_chunks()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False))


def write_chunk(chunk: Path, step_table: Path, groups: Iterable[Group], dtype: str) -> ChunkFacts:
    """Write a chunk and its step table, each whole or not at all. `groups` is consumed one by one.

    Raises:
        ValueError: there is no group.
    """
    digest = hashlib.sha256()
    batches: list[tuple[Batch, int, str]] = []
    with replacing_file(chunk) as partial:
        with pq.ParquetWriter(partial, chunk_schema(dtype), **PARQUET_OPTIONS) as writer:
            for index, group in enumerate(groups):
                writer.write_table(group.table, row_group_size=max(group.table.num_rows, 1))
                row_len = len(group.table.column("token_ids")[0])
                ids = little_endian_ids(flat_ids(group.table))
                digest.update(ids)
                origin = group.batches[0].first_row
                for batch in group.batches:
                    begin, end = ((row - origin) * row_len * 4 for row in (batch.first_row, batch.end_row))
                    batches.append((batch, index, hashlib.sha256(ids[begin:end]).hexdigest()))
        if not batches:
            raise ValueError(f"{chunk.name}: a chunk holds at least one step")
        size = partial.stat().st_size
        write_step_table(step_table, batches, _group_digests(partial))
    return ChunkFacts(
        first_step=batches[0][0].step,
        end_step=batches[-1][0].step + 1,
        first_row=batches[0][0].first_row,
        end_row=batches[-1][0].end_row,
        bytes=size,
        rows_sha256=digest.hexdigest(),
    )


def _group_digests(chunk: Path) -> list[tuple[int, int, str]]:
    """`(begin, end, sha256)` of each row group of a file that was just written."""
    size = chunk.stat().st_size
    with chunk.open("rb") as file:
        file.seek(size - TAIL_BYTES)
        begin = size - TAIL_BYTES - int.from_bytes(file.read(4), "little")
        file.seek(begin)
        digests = []
        for first, end in read_layout(chunk.name, file.read(), begin).ranges:
            file.seek(first)
            digests.append((first, end, hashlib.sha256(file.read(end - first)).hexdigest()))
    return digests


def write_step_table(path: Path, batches: list[tuple[Batch, int, str]], groups: list[tuple[int, int, str]]) -> None:
    """Write a step table from `(batch, its group, digest of its ids)` and `(begin, end, sha256)` of each group."""
    columns = [
        [batch.step for batch, _, _ in batches],
        [batch.first_row for batch, _, _ in batches],
        [batch.end_row for batch, _, _ in batches],
        [group for _, group, _ in batches],
        *([groups[group][part] for _, group, _ in batches] for part in range(3)),
        [ids_sha256 for _, _, ids_sha256 in batches],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, STEP_TABLE_SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=STEP_TABLE_SCHEMA)
    with replacing_file(path) as partial:
        pq.write_table(table, partial, row_group_size=max(len(batches), 1), **PARQUET_OPTIONS)
