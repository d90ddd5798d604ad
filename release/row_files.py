"""Rows written for others to read: Parquet, JSON lines, or NumPy. One batch is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from open360.release.corpus.chunk_file import PARQUET_OPTIONS
from open360.release.rows import BatchRows
from open360.schema.errors import Open360Error

RowForm = Literal["parquet", "jsonl", "npy"]
FILE_NAMES: dict[RowForm, str] = {"parquet": "rows.parquet", "jsonl": "rows.jsonl", "npy": "token_ids.npy"}


class RowFormError(Open360Error):
    """The rows do not fit into the form that was asked for."""


def write_rows(batches: Iterable[BatchRows], form: RowForm, path: Path, *, rows: int, row_len: int) -> None:
    """Write the rows of batches, in order, to a file of the given form.

    * `parquet`: the columns of a chunk, one row group a batch.
    * `jsonl`: one object a row with the columns of a chunk.
    * `npy`: the ids alone, shape `(rows, row_len)`, in the dtype of the chunk.

    Raises RowFormError when the rows are not `(rows, row_len)`, as a NumPy file must say at its beginning.
    """
    if form == "parquet":
        _write_parquet(batches, path)
    elif form == "jsonl":
        _write_json_lines(batches, path)
    else:
        _write_numpy(batches, path, (rows, row_len))


def _write_parquet(batches: Iterable[BatchRows], path: Path) -> None:
    writer: pq.ParquetWriter | None = None
    try:
        for batch in batches:
            if writer is None:
                writer = pq.ParquetWriter(path, batch.table.schema, **PARQUET_OPTIONS)
            writer.write_table(batch.table, row_group_size=max(batch.table.num_rows, 1))
    finally:
        if writer is not None:
            writer.close()


def _write_json_lines(batches: Iterable[BatchRows], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in batches:
            for row in batch.table.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


def _write_numpy(batches: Iterable[BatchRows], path: Path, shape: tuple[int, int]) -> None:
    written = 0
    with path.open("wb") as file:
        for batch in batches:
            ids = np.ascontiguousarray(batch.ids)
            if written == 0:
                header = {"descr": np.lib.format.dtype_to_descr(ids.dtype), "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            if ids.shape[1] != shape[1]:
                raise RowFormError(f"step {batch.step}: expected rows of {shape[1]} ids, found {ids.shape[1]}")
            file.write(ids.tobytes())
            written += ids.shape[0]
    if written != shape[0]:
        raise RowFormError(f"expected {shape[0]} rows, found {written}; see 'open360 validate'")
