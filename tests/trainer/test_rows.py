"""Rows come in order, and nothing that a chunk says is believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.schema.errors import IntegrityError
from open360.schema.schedule import rows_at
from open360.schema.spec import ReleaseSpec
from open360.trainer.rows import ChunkRows
from tests.trainer.tiny_run import row_stream, segment_named, tiny_spec, write_chunk

CHUNK = "runs/tiny/chunks/chunk_001.parquet"
STEPS = "runs/tiny/steps/chunk_001.parquet"


def opened(spec: ReleaseSpec, root: Path, vocabulary: int = 300) -> ChunkRows:
    run, segment = segment_named(spec, "ckpt_001")
    return ChunkRows(run, segment, root, row_len=17, vocabulary=vocabulary)


def test_batches_hold_the_rows_of_their_steps(release: Path, spec: ReleaseSpec) -> None:
    expected = row_stream(72, 17, seed=1)
    batches = list(opened(spec, release).batches(6))
    assert [batch.step for batch in batches] == list(range(6, 12))
    for batch in batches:
        assert (batch.first_row, batch.end_row) == (batch.step * 4, batch.step * 4 + 4)
        assert np.array_equal(batch.ids, expected[batch.first_row : batch.end_row])
        assert batch.ids.dtype == np.int64


def test_reading_can_begin_at_any_step(release: Path, spec: ReleaseSpec) -> None:
    rows = opened(spec, release)
    for first in range(6, 13):
        assert [batch.step for batch in rows.batches(first)] == list(range(first, 12))


def test_the_rows_digest_is_that_of_the_ids_alone(release: Path, spec: ReleaseSpec) -> None:
    ids = row_stream(72, 17, seed=1)[24:48]
    assert opened(spec, release).verify() == hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    group=st.integers(1, 7),
)
def test_row_groups_of_any_number_of_steps_give_the_same_batches(
    tmp_path: Path, batches: list[int], group: int
) -> None:
    pairs = [[index * 3, rows] for index, rows in enumerate(batches)]
    spec = tiny_spec(lambda text: text.replace("batch: 4", f"batch: {pairs}"))
    run, segment = segment_named(spec, "ckpt_001")
    ids = row_stream(segment.rows, 17, seed=4)
    write_chunk(tmp_path, run, segment, ids, steps_in_group=group)
    rows = ChunkRows(run, segment, tmp_path, row_len=17, vocabulary=300)
    found = list(rows.batches(segment.first_step))
    assert np.array_equal(np.concatenate([batch.ids for batch in found]), ids)
    for batch in found:
        assert (batch.first_row, batch.end_row) == (rows_at(run, batch.step), rows_at(run, batch.step + 1))


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def column(name: str, values: Callable[[list[object]], list[object]], kind: pa.DataType | None = None) -> object:
    def change(table: pa.Table) -> pa.Table:
        index = table.schema.get_field_index(name)
        old = table.column(name)
        return table.set_column(index, name, pa.array(values(old.to_pylist()), kind or old.type))

    return change


def one(values: list[object], index: int, value: object) -> list[object]:
    return [*values[:index], value, *values[index + 1 :]]


LISTS = pa.list_(pa.uint16())
CHUNK_CHANGES = {
    "rows in other order": lambda table: table.take([1, 0, *range(2, 24)]),
    "a row too few": lambda table: table.slice(0, 23),
    "a row too many": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "a null row number": column("row", lambda v: one(v, 3, None)),
    "a wrong step": column("step", lambda v: one(v, 3, 7)),
    "a short row": column("token_ids", lambda v: one(v, 5, [1] * 16)),
    "a long row": column("token_ids", lambda v: one(v, 5, [1] * 18)),
    "two rows that share their ids unfairly": column("token_ids", lambda v: one(one(v, 5, [1] * 16), 6, [1] * 18)),
    "a null row": column("token_ids", lambda v: one(v, 5, None)),
    "a null id": column("token_ids", lambda v: one(v, 5, [None] * 17)),
    "an id beyond the vocabulary": column("token_ids", lambda v: one(v, 5, [300] * 17)),
    "another id": column("token_ids", lambda v: one(v, 5, [9] * 17)),
    "signed ids": column("token_ids", lambda v: v, pa.list_(pa.int32())),
    "no ids": lambda table: table.drop_columns(["token_ids"]),
    "ids that are texts": lambda table: table.set_column(2, "token_ids", pa.array(["x"] * 24)),
    "rows as fractions": column("row", lambda v: [value + 0.5 for value in v], pa.float64()),  # type: ignore[operator]
}


@pytest.mark.parametrize("case", CHUNK_CHANGES)
def test_a_chunk_that_holds_other_rows_is_refused(release: Path, spec: ReleaseSpec, case: str) -> None:
    rewrite(release / CHUNK, CHUNK_CHANGES[case])  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=r"chunk_001\.parquet"):
        opened(spec, release).verify()


TABLE_CHANGES = {
    "a step too few": lambda table: table.slice(1),
    "steps in other order": lambda table: table.take([1, 0, 2, 3, 4, 5]),
    "rows of another batch size": column("end_row", lambda v: [value + 1 for value in v]),  # type: ignore[operator]
    "another digest": column("ids_sha256", lambda v: one(v, 2, "0" * 64)),
    "a null digest": column("ids_sha256", lambda v: one(v, 2, None)),
    "no digests": lambda table: table.drop_columns(["ids_sha256"]),
}


@pytest.mark.parametrize("case", TABLE_CHANGES)
def test_a_step_table_that_disagrees_is_refused(release: Path, spec: ReleaseSpec, case: str) -> None:
    rewrite(release / STEPS, TABLE_CHANGES[case])  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match=r"steps/chunk_001\.parquet"):
        opened(spec, release).verify()


@pytest.mark.parametrize("path", [CHUNK, STEPS])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"not parquet at all"])
def test_what_is_no_parquet_file_is_refused(release: Path, spec: ReleaseSpec, path: str, data: bytes) -> None:
    (release / path).write_bytes(data)
    with pytest.raises(IntegrityError, match="a Parquet file that can be read"):
        opened(spec, release).verify()


def test_a_row_group_that_unpacks_to_far_more_than_its_rows_is_refused(release: Path, spec: ReleaseSpec) -> None:
    lists = pa.array([[0] * 1_000_000] * 24, LISTS)
    rewrite(release / CHUNK, lambda table: table.set_column(2, "token_ids", lists))
    assert (release / CHUNK).stat().st_size < 100_000
    with pytest.raises(IntegrityError, match="row group 0"):
        opened(spec, release)


def test_uint32_ids_are_read_as_well(release: Path, spec: ReleaseSpec) -> None:
    before = opened(spec, release).verify()
    rewrite(release / CHUNK, column("token_ids", lambda v: v, pa.list_(pa.uint32())))  # type: ignore[arg-type]
    assert opened(spec, release).verify() == before
