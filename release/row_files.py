"""Rows written for others to read: Parquet, JSON lines, NumPy, Megatron's `.bin` with `.idx`, or text.

Rows come as tables with the columns `row`, `step`, `token_ids` and what else is known of them; one table is in memory
at a time, and becomes one row group of a Parquet file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from open360.release.corpus.chunk_file import PARQUET_OPTIONS
from open360.schema.errors import Open360Error

RowForm = Literal["parquet", "jsonl", "npy", "megatron", "text"]
Form = Literal["native"] | RowForm
"""`native`: whole files as they are published."""
Render = Callable[[pa.Table], Iterator[str]]
FILE_NAMES: dict[RowForm, str] = {
    "parquet": "rows.parquet",
    "jsonl": "rows.jsonl",
    "npy": "token_ids.npy",
    "megatron": "rows.bin",
    "text": "rows.txt",
}
OBJECTS_AT_A_TIME = 64  # rows that are turned into Python's objects
MEGATRON_HEADER = b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little")
MEGATRON_CODES = {2: 8, 4: 4}  # uint16 and int32, by bytes of an id
MAX_SIGNED_ID = (1 << 31) - 1
INDEX_BLOCK = 1 << 20


class RowFormError(Open360Error):
    """The rows do not fit into the form that was asked for."""


def write_rows(
    tables: Iterable[pa.Table],
    form: RowForm,
    path: Path,
    *,
    schema: pa.Schema,
    row_len: int,
    rows: int | None = None,
    render: Render | None = None,
    group_rows: int | None = None,
) -> int:
    """Write rows, in order, to a file of the given form; returns how many there were.

    * `parquet`: all columns, one row group a table, or for every `group_rows` of its rows.
    * `jsonl`: one object a row with all columns.
    * `npy`: the ids alone, shape `(rows, row_len)`, in the type of `schema`.
    * `megatron`: the ids alone in `.bin`, one sequence and document a row in `.idx` beside it.
    * `text`: what `render` makes of each table.

    Raises RowFormError when the rows are not `(rows, row_len)`; `rows` may be unknown.
    """
    counted = _Counted(tables, row_len)
    if form == "parquet":
        _write_parquet(counted, path, schema, group_rows)
    elif form == "jsonl":
        _write_json_lines(counted, path)
    elif form == "npy":
        _write_numpy(counted, path, id_type(schema), row_len)
    elif form == "megatron":
        _write_megatron(counted, path, id_type(schema), row_len)
    else:
        _write_text(counted, path, render)
    if rows is not None and counted.rows != rows:
        raise RowFormError(f"expected {rows} rows, found {counted.rows}; see 'open360 validate'")
    return counted.rows


class _Counted:
    """Tables, looked at and counted as they go by."""

    def __init__(self, tables: Iterable[pa.Table], row_len: int) -> None:
        self._tables, self._row_len, self.rows = tables, row_len, 0

    def __iter__(self) -> Iterator[pa.Table]:
        for table in self._tables:
            ids = len(ids_of(table))
            if ids != table.num_rows * self._row_len:
                raise RowFormError(
                    f"rows {self.rows} to {self.rows + table.num_rows}: expected rows of {self._row_len} ids, "
                    f"found {ids} ids in {table.num_rows} rows"
                )
            self.rows += table.num_rows
            if table.num_rows:
                yield table
            del table  # before the next one is made


def ids_of(table: pa.Table) -> NDArray[Any]:
    """All ids of a table, one after the other, over its own memory. (Arrow's `to_numpy` would import pandas.)"""
    ids = table.column("token_ids").combine_chunks().flatten()
    if ids.null_count:
        raise RowFormError(f"expected ids in every place of a row, found {ids.null_count} places without")
    dtype = np.dtype(str(ids.type))
    if not len(ids):
        return np.empty(0, dtype=dtype)
    return np.frombuffer(ids.buffers()[1], dtype=dtype)[ids.offset : ids.offset + len(ids)]


def id_type(schema: pa.Schema) -> np.dtype[Any]:
    """The type of the ids of a schema."""
    return np.dtype(str(schema.field("token_ids").type.value_type))


def _write_parquet(tables: Iterable[pa.Table], path: Path, schema: pa.Schema, group_rows: int | None) -> None:
    with pq.ParquetWriter(path, schema, **PARQUET_OPTIONS) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=group_rows or table.num_rows)
            pa.default_memory_pool().release_unused()
            del table


def _write_json_lines(tables: Iterable[pa.Table], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            for at in range(0, table.num_rows, OBJECTS_AT_A_TIME):
                for row in table.slice(at, OBJECTS_AT_A_TIME).to_pylist():
                    file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def _write_numpy(tables: _Counted, path: Path, dtype: np.dtype[Any], row_len: int) -> None:
    with path.open("wb") as file:
        begin = _write_numpy_header(file, dtype, (0, row_len))
        for table in tables:
            file.write(_ids(table, dtype).data)
        file.seek(0)
        if _write_numpy_header(file, dtype, (tables.rows, row_len)) != begin:
            raise RowFormError(f"a NumPy file of {tables.rows} rows needs another header; choose another form")


def _write_numpy_header(file: Any, dtype: np.dtype[Any], shape: tuple[int, int]) -> int:
    """NumPy leaves room in a header for the number of rows to grow, so that it can be written again."""
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return int(file.tell())


def _write_megatron(tables: _Counted, path: Path, dtype: np.dtype[Any], row_len: int) -> None:
    """Format: megatron/data/indexed_dataset.py. Its ids are uint16 or int32."""
    with path.open("wb") as file:
        for table in tables:
            ids = _ids(table, dtype)
            if dtype.itemsize == 4 and ids.size and int(ids.max()) > MAX_SIGNED_ID:
                raise RowFormError(f"id {int(ids.max())} is too large for Megatron's int32; choose another form")
            file.write(ids.data)
    count, size = tables.rows, row_len * dtype.itemsize
    with path.with_suffix(".idx").open("wb") as index:
        index.write(MEGATRON_HEADER + bytes([MEGATRON_CODES[dtype.itemsize]]))
        index.write(count.to_bytes(8, "little") + (count + 1).to_bytes(8, "little"))
        for first, end in _blocks(count):
            index.write(np.full(end - first, row_len, dtype="<i4").data)
        for first, end in _blocks(count):
            index.write((np.arange(first, end, dtype="<i8") * size).data)
        for first, end in _blocks(count + 1):
            index.write(np.arange(first, end, dtype="<i8").data)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, INDEX_BLOCK):
        yield first, min(first + INDEX_BLOCK, count)


def _write_text(tables: Iterable[pa.Table], path: Path, render: Render | None) -> None:
    if render is None:
        raise RowFormError("text needs a tokenizer; choose another form")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for table in tables:
            file.writelines(render(table))


def _ids(table: pa.Table, dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(ids_of(table), dtype=dtype)
