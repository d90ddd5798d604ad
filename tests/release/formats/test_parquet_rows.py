"""Rows in Parquet of others: as pyarrow reads them whole, from the row groups and columns that are needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.corpus.parquet_layout import ChunkFileError
from open360.release.formats.parquet_rows import ParquetReader
from open360.release.formats.ranges import DataFileError
from open360.release.order.file_rows import RowSpan
from tests.support.counted_ranges import CountedRanges

ROW_LEN = 6


def table_of(rows: int, kind: Any = None, **more: Any) -> tuple[np.ndarray, pa.Table]:  # type: ignore[type-arg]
    ids = np.random.default_rng(rows).integers(0, 60_000, (rows, ROW_LEN))
    column = pa.array(ids.tolist(), kind or pa.list_(pa.uint16()))
    return ids, pa.table({"uid": np.arange(rows), "batch_idx": np.arange(rows) // 4, "token_ids": column, **more})


def parquet(table: pa.Table, **how: Any) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content, **how)
    return content.getvalue()


def reader(ranges: CountedRanges, **how: Any) -> ParquetReader:
    return ParquetReader(ranges, row_len=ROW_LEN, ids="token_ids", **how)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_rows_are_those_of_the_file_however_it_was_written(data: st.DataObject) -> None:
    kind = data.draw(
        st.sampled_from(
            [
                pa.list_(pa.uint16()),
                pa.list_(pa.int64()),
                pa.large_list(pa.uint32()),
                pa.list_(pa.int32(), ROW_LEN),
            ]
        )
    )
    ids, table = table_of(data.draw(st.integers(1, 60)), kind)
    how = {
        "row_group_size": data.draw(st.integers(1, 30)),
        "compression": data.draw(st.sampled_from(["none", "zstd", "snappy"])),
        "use_dictionary": data.draw(st.booleans()),
        "data_page_version": data.draw(st.sampled_from(["1.0", "2.0"])),
        "write_page_index": data.draw(st.booleans()),
    }
    files = reader(CountedRanges({"a.parquet": parquet(table, **how)}))
    assert files.rows_of("a.parquet") == len(ids)
    pieces = []
    for _ in range(data.draw(st.integers(0, 5))):
        first = data.draw(st.integers(0, len(ids)))
        pieces.append((first, data.draw(st.integers(first, len(ids)))))
    found = files.read([RowSpan("a.parquet", *piece) for piece in pieces])
    np.testing.assert_array_equal(found, np.concatenate([ids[:0], *(ids[a:b] for a, b in pieces)]))


def test_a_row_costs_the_ids_of_its_row_group_and_the_footer_once() -> None:
    ids, table = table_of(4_000, text=["a long text that nobody asked for " * 9] * 4_000)
    ranges = CountedRanges({"a.parquet": parquet(table, row_group_size=100)})
    files = reader(ranges)
    files.rows_of("a.parquet")
    ranges.reads.clear()
    np.testing.assert_array_equal(files.read([RowSpan("a.parquet", 205, 210)]), ids[205:210])
    assert len(ranges.reads) == 1
    assert ranges.bytes_read < 5_000
    assert files.reading([RowSpan("a.parquet", 205, 210)]).reads == tuple(ranges.reads)


def test_labels_of_sources_and_other_columns_come_along() -> None:
    labels = [f"s{n % 3}" if n % 5 else None for n in range(50)]
    _, table = table_of(50, source=labels)
    files = reader(CountedRanges({"a.parquet": parquet(table, row_group_size=7)}), source="source")
    blocks = list(files.blocks([RowSpan("a.parquet", 5, 20)]))
    assert [label for block in blocks for label in block.sources or ()] == labels[5:20]
    tables = files.values([RowSpan("a.parquet", 5, 20)], ["uid", "batch_idx"])
    assert pa.concat_tables(tables).to_pydict() == {
        "uid": list(range(5, 20)),
        "batch_idx": [n // 4 for n in range(5, 20)],
    }


def test_rows_of_another_length_or_type_and_missing_columns_are_refused() -> None:
    _, good = table_of(10)
    for column, says in (
        (pa.array([[1] * ROW_LEN, [1] * 5]), "found 5 ids in row 1"),
        (pa.array([[1] * ROW_LEN, None]), "whole numbers"),
        (pa.array([[1] * ROW_LEN, [1, None, 1, 1, 1, 1]]), "whole numbers"),
        (pa.array([[1.0] * ROW_LEN]), "whole numbers"),
        (pa.array([1, 2]), "lists of ids"),
        (pa.array([[-1] * ROW_LEN]), "ids of 0 to"),
    ):
        files = reader(CountedRanges({"a.parquet": parquet(pa.table({"token_ids": column}))}))
        with pytest.raises((ChunkFileError, DataFileError), match=says):
            files.read([RowSpan("a.parquet", 0, files.rows_of("a.parquet"))])
    files = ParquetReader(CountedRanges({"a.parquet": parquet(good)}), row_len=ROW_LEN, ids="input_ids")
    with pytest.raises(ChunkFileError, match="expected a column 'input_ids', found"):
        files.read([RowSpan("a.parquet", 0, 1)])
    with pytest.raises(DataFileError, match="expected rows 5 to 11, found 10 rows"):
        reader(CountedRanges({"a.parquet": parquet(good)})).read([RowSpan("a.parquet", 5, 11)])


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_a_damaged_file_is_refused_or_read_and_never_ends_the_process(data: st.DataObject) -> None:
    _, table = table_of(40)
    content = bytearray(parquet(table, row_group_size=10))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.sampled_from([len(content), len(content), data.draw(st.integers(0, len(content)))]))
    files = reader(CountedRanges({"a.parquet": bytes(content[:end])}))
    try:
        found = files.read([RowSpan("a.parquet", 0, 40)])
    except (ChunkFileError, DataFileError):
        return
    assert found.shape == (40, ROW_LEN)


def test_footers_of_many_files_are_not_all_kept() -> None:
    ids, table = table_of(10)
    ranges = CountedRanges({f"{n}.parquet": parquet(table) for n in range(30)})
    files = reader(ranges)
    found = files.read([RowSpan(f"{n}.parquet", 3, 4) for n in range(30)])
    np.testing.assert_array_equal(found, np.repeat(ids[3:4], 30, axis=0))
    assert len(files._files) <= 8


def test_a_large_footer_takes_a_second_read() -> None:
    _, table = table_of(3_000)
    ranges = CountedRanges({"a.parquet": parquet(table, row_group_size=2)})
    files = reader(ranges)
    assert files.rows_of("a.parquet") == 3_000
    assert len(ranges.reads) == 2
