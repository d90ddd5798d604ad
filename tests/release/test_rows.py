"""Rows by range: a batch costs its row group, the footer once, the step table; whatever is wrong is found."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from open360.release import rows as rows_module
from open360.release.corpus.bounded_parquet import Footer, decode_rows, read_whole
from open360.release.corpus.chunk_file import (
    PARQUET_OPTIONS,
    STEP_TABLE_SCHEMA,
    Batch,
    ChunkFacts,
    Group,
    chunk_schema,
    group_batches,
    write_chunk,
)
from open360.release.rows import ChunkFileError, ChunkProblem, ChunkReader, StepTable, verify_chunk
from open360.schema.errors import IntegrityError
from open360.schema.manifest import ChunkRecord, FileRecord

ROW_LEN, VOCABULARY, FIRST_STEP, STEPS, ROWS = 129, 1000, 10, 24, 64


@dataclass
class Chunk:
    """A chunk on disk, and the reads that were made of it."""

    path: Path
    step_table: Path
    facts: ChunkFacts
    ids: np.ndarray[Any, Any]
    reads: list[tuple[int, int]] = field(default_factory=list)

    def read(self, begin: int, end: int) -> bytes:
        self.reads.append((begin, end))
        return self.path.read_bytes()[begin:end]

    def table(self) -> StepTable:
        return StepTable.from_bytes(self.step_table.read_bytes())

    def reader(self) -> ChunkReader:
        return ChunkReader("chunk_000", self.table(), self.path.stat().st_size, self.read)

    def record(self, **changes: Any) -> ChunkRecord:
        files = [FileRecord(path=p.name, bytes=p.stat().st_size, sha256="0" * 64) for p in (self.path, self.step_table)]
        facts = {key: value for key, value in vars(self.facts).items() if key != "bytes"}
        return ChunkRecord(
            name="chunk_000", file=files[0], step_table=files[1], **{"row_len": ROW_LEN, **facts, **changes}
        )

    def problems(self, **changes: Any) -> list[ChunkProblem]:
        return verify_chunk(self.path, self.step_table, self.record(**changes), vocabulary=VOCABULARY)

    def codes(self, **changes: Any) -> set[str]:
        return {problem.code for problem in self.problems(**changes)}


def rows_table(ids: np.ndarray[Any, Any], batches: Sequence[Batch], dtype: str = "uint16") -> pa.Table:
    first = batches[0].first_row
    rows = list(range(first, batches[-1].end_row))
    steps = [b.step for b in batches for _ in range(b.first_row, b.end_row)]
    cut = ROW_LEN // 3
    spans = [
        [
            {"source": "s", "id": f"s/{row}", "start": 0, "length": cut, "offset": 5},
            {"source": "s", "id": f"s/{row + 1}", "start": cut, "length": ROW_LEN - cut, "offset": 0},
        ]
        for row in rows
    ]
    columns = {"row": rows, "step": steps, "token_ids": list(ids), "documents": spans}
    return pa.table(columns, schema=chunk_schema(dtype))


def make_chunk(
    folder: Path, change: Callable[[pa.Table], pa.Table] = lambda table: table, dtype: str = "uint16"
) -> Chunk:
    """A chunk of several row groups of several steps. `change` spoils the table of the second group."""
    rng = np.random.default_rng(5)
    ids = rng.integers(0, VOCABULARY, (STEPS * ROWS, ROW_LEN)).astype(dtype)
    batches = [Batch(step=FIRST_STEP + i, first_row=640 + i * ROWS, end_row=640 + (i + 1) * ROWS) for i in range(STEPS)]
    groups = []
    for number, part in enumerate(group_batches(batches, ROW_LEN, np.dtype(dtype).itemsize)):
        table = rows_table(ids[part[0].first_row - 640 : part[-1].end_row - 640], part, dtype)
        groups.append(Group(batches=part, table=change(table) if number == 1 else table))
    assert len(groups) > 3
    path, step_table = folder / "chunks" / "chunk_000.parquet", folder / "steps" / "chunk_000.parquet"
    return Chunk(path=path, step_table=step_table, facts=write_chunk(path, step_table, groups, dtype), ids=ids)


@pytest.fixture
def chunk(tmp_path: Path) -> Chunk:
    return make_chunk(tmp_path)


def test_one_batch_costs_its_row_group_and_the_footer_once(chunk: Chunk) -> None:
    reader, table, size = chunk.reader(), chunk.table(), chunk.path.stat().st_size
    entry = table.entry(FIRST_STEP + 9)
    batch = reader.batch(FIRST_STEP + 9)
    assert chunk.reads == [(table.data_end, size), (entry.group_begin, entry.group_end)]
    assert np.array_equal(batch.ids, chunk.ids[9 * ROWS : 10 * ROWS])
    assert (batch.step, batch.first_row, batch.end_row) == (FIRST_STEP + 9, 640 + 9 * ROWS, 640 + 10 * ROWS)
    reader.batch(FIRST_STEP + STEPS - 1)
    last = table.entry(FIRST_STEP + STEPS - 1)
    assert chunk.reads[2:] == [(last.group_begin, last.group_end)]


def test_a_step_of_the_group_that_was_read_costs_nothing(chunk: Chunk) -> None:
    table = chunk.table()
    same = [e.step for e in table.entries if e.group == 1]
    assert len(same) > 1
    reader = chunk.reader()
    reader.batch(same[0])
    reader.batch(same[1])
    assert len(chunk.reads) == 2


def test_neighbouring_groups_are_read_together_and_every_row_comes_once(chunk: Chunk) -> None:
    batches = list(chunk.reader().batches(FIRST_STEP + 1, FIRST_STEP + STEPS))
    assert np.array_equal(np.concatenate([b.ids for b in batches]), chunk.ids[ROWS:])
    assert len(chunk.reads) == 2
    sources = batches[0].table.column("documents")[0].as_py()
    assert [s["length"] for s in sources] == [43, 86]


def test_a_long_stretch_is_read_in_bounded_pieces(chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MERGED_READ_BYTES", 150_000)
    batches = list(chunk.reader().batches(FIRST_STEP, FIRST_STEP + STEPS))
    assert np.array_equal(np.concatenate([b.ids for b in batches]), chunk.ids)
    assert len(chunk.reads) > 2
    assert all(end - begin <= 150_000 for begin, end in chunk.reads)


def test_the_row_groups_fill_the_file_between_magic_and_footer(chunk: Chunk) -> None:
    data = chunk.path.read_bytes()
    groups = list(dict.fromkeys((e.group_begin, e.group_end, e.group_sha256) for e in chunk.table().entries))
    assert groups[0][0] == 4
    assert all(a[1] == b[0] for a, b in itertools.pairwise(groups))
    assert groups[-1][1] == chunk.table().data_end
    assert all(hashlib.sha256(data[begin:end]).hexdigest() == digest for begin, end, digest in groups)


def test_a_step_that_the_chunk_does_not_hold_is_refused(chunk: Chunk) -> None:
    for step in (FIRST_STEP - 1, FIRST_STEP + STEPS, -1):
        with pytest.raises(ChunkFileError, match="expected steps 10 to 33"):
            chunk.reader().batch(step)


def test_stock_readers_need_nothing_of_ours(chunk: Chunk, tmp_path: Path) -> None:
    assert pq.read_table(chunk.path).num_rows == STEPS * ROWS
    script = (
        "import sys; from datasets import load_dataset\n"
        "d = load_dataset('parquet', data_files=sys.argv[1], split='train')\n"
        "print(d.num_rows, d.column_names, sum(d[3]['token_ids']), d[3]['documents'][1]['id'])\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, str(chunk.path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    names = ["row", "step", "token_ids", "documents"]
    assert done.stdout.strip() == f"{STEPS * ROWS} {names} {int(chunk.ids[3].sum())} s/644"


def test_wide_ids_are_stored_and_read_as_uint32(tmp_path: Path) -> None:
    wide = make_chunk(tmp_path, dtype="uint32")
    assert wide.reader().batch(FIRST_STEP).ids.dtype == np.uint32
    assert wide.codes() == set()


def test_a_whole_chunk_has_no_problems(chunk: Chunk) -> None:
    assert chunk.problems() == []


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_of_a_group_is_found_by_reader_and_check(chunk: Chunk) -> None:
    entry = chunk.table().entry(FIRST_STEP + 9)
    flip(chunk.path, (entry.group_begin + entry.group_end) // 2)
    with pytest.raises(IntegrityError, match="expected sha256"):
        chunk.reader().batch(FIRST_STEP + 9)
    assert chunk.reader().batch(FIRST_STEP).step == FIRST_STEP
    (problem,) = chunk.problems()
    assert (problem.code, problem.where) == ("group_digest", f"row group {entry.group}")


def test_bytes_that_are_not_there_are_an_error(chunk: Chunk) -> None:
    reader = ChunkReader("chunk_000", chunk.table(), chunk.path.stat().st_size, lambda _begin, _end: b"")
    with pytest.raises(ChunkFileError, match=r"expected \d+ bytes at"):
        reader.batch(FIRST_STEP)


@pytest.mark.parametrize("cut", [1, 8, 700, 100_000])
def test_a_truncated_chunk_is_found(chunk: Chunk, cut: int) -> None:
    chunk.path.write_bytes(chunk.path.read_bytes()[:-cut])
    assert chunk.codes() == {"unreadable"}
    with pytest.raises(ChunkFileError):
        chunk.reader().batch(FIRST_STEP)


def test_a_missing_file_is_a_problem_not_a_crash(chunk: Chunk) -> None:
    record = chunk.record()
    chunk.path.unlink()
    assert [p.code for p in verify_chunk(chunk.path, chunk.step_table, record)] == ["unreadable"]
    chunk.step_table.unlink()
    assert [p.code for p in verify_chunk(chunk.path, chunk.step_table, record)] == ["unreadable"]


def replaced(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    field_of = table.schema.field(column)
    return table.set_column(table.schema.get_field_index(column), field_of, pa.array(values, field_of.type))


def edited(column: str, edit: Callable[[list[Any]], None]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        edit(values)
        return replaced(table, column, values)

    return change


def put(index: int, value: Any) -> Callable[[list[Any]], None]:
    def edit(values: list[Any]) -> None:
        values[index] = value

    return edit


SPAN = {"source": "s", "id": "s/1", "start": 0, "length": ROW_LEN, "offset": 0}


@pytest.mark.parametrize(
    ("column", "edit", "code"),
    [
        ("row", put(3, 5), "rows"),
        ("row", put(3, None), "rows"),
        ("row", list.reverse, "rows"),
        ("step", put(0, 99), "steps"),
        ("step", put(0, None), "steps"),
        ("token_ids", put(2, [VOCABULARY] * ROW_LEN), "ids"),
        ("documents", put(2, []), "documents"),
        ("documents", put(2, None), "documents"),
        ("documents", put(2, [None]), "documents"),
        ("documents", put(2, [SPAN | {"length": ROW_LEN - 1}]), "documents"),
        ("documents", put(2, [SPAN | {"start": 1}]), "documents"),
        ("documents", put(2, [SPAN | {"length": -4}, SPAN | {"start": -4, "length": ROW_LEN + 4}]), "documents"),
        ("documents", put(2, [SPAN | {"offset": -1}]), "documents"),
        ("documents", put(2, [SPAN, SPAN | {"start": ROW_LEN, "length": 0}]), "documents"),
        ("documents", put(2, [SPAN | {"id": None}]), "documents"),
    ],
)
def test_wrong_content_with_right_digests_is_found(
    tmp_path: Path, column: str, edit: Callable[[list[Any]], None], code: str
) -> None:
    assert make_chunk(tmp_path, edited(column, edit)).codes() == {code}


def test_rows_of_another_length_are_found(tmp_path: Path) -> None:
    short = make_chunk(tmp_path, edited("token_ids", put(5, [1, 2, 3])))
    assert "row_len" in short.codes()


def test_what_the_record_says_is_compared(chunk: Chunk) -> None:
    assert chunk.codes(rows_sha256="0" * 64) == {"rows_digest"}
    assert "step_table" in chunk.codes(end_step=FIRST_STEP + STEPS + 1)
    assert "step_table" in chunk.codes(first_row=0)
    assert "row_len" in chunk.codes(row_len=ROW_LEN + 1)


def rewrite_step_table(chunk: Chunk, column: str, edit: Callable[[list[Any]], None]) -> None:
    table = pq.read_table(chunk.step_table)
    values = table.column(column).to_pylist()
    edit(values)
    pq.write_table(replaced(table, column, values), chunk.step_table, **PARQUET_OPTIONS)


@pytest.mark.parametrize(
    ("column", "edit"),
    [
        ("step", put(3, 99)),
        ("first_row", put(3, 0)),
        ("end_row", put(23, 0)),
        ("group", put(0, 7)),
        ("group_begin", put(0, 0)),
        ("group_end", put(23, 1 << 40)),
        ("group_sha256", put(4, "xyz")),
        ("ids_sha256", put(4, None)),
    ],
)
def test_a_step_table_that_cannot_be_is_refused(chunk: Chunk, column: str, edit: Callable[[list[Any]], None]) -> None:
    rewrite_step_table(chunk, column, edit)
    with pytest.raises(ChunkFileError):
        chunk.table()
    assert chunk.codes() == {"unreadable"}


def test_another_digest_of_a_batch_is_found(chunk: Chunk) -> None:
    rewrite_step_table(chunk, "ids_sha256", put(4, "0" * 64))
    assert chunk.codes() == {"batch_digest"}
    with pytest.raises(IntegrityError, match="ids of step 14"):
        chunk.reader().batch(FIRST_STEP + 4)


def test_a_step_table_of_another_chunk_does_not_fit(chunk: Chunk, tmp_path: Path) -> None:
    last = chunk.table().entries[-1].group
    groups = [e.group for e in chunk.table().entries]
    cut = groups.index(last)
    rewrite_step_table(chunk, "group_end", lambda v: v.__setitem__(slice(cut, None), [v[-1] - 3] * (len(v) - cut)))
    assert chunk.codes() <= {"unreadable", "ranges"}
    with pytest.raises(ChunkFileError):
        chunk.reader().batch(FIRST_STEP)


def test_a_step_table_beyond_the_limit_is_not_read(chunk: Chunk) -> None:
    with pytest.raises(ChunkFileError, match="expected at most 100 bytes"):
        StepTable.from_bytes(chunk.step_table.read_bytes(), 100)


def one_group(table: pa.Table, **options: Any) -> tuple[Footer, bytes]:
    """The footer and the one row group of a table that was written by stock pyarrow."""
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    data = file.getvalue()
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    return Footer("x", data[begin:], begin), data[4:begin]


def test_other_columns_are_refused() -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"step": [1]}), file)
    with pytest.raises(ChunkFileError, match="a step table"):
        StepTable.from_bytes(file.getvalue())
    footer, data = one_group(pa.table({"step": [1]}))
    with pytest.raises(ChunkFileError, match="expected the columns"):
        decode_rows(footer, 0, data)


def test_files_of_stock_writers_are_read_through_the_same_bounds() -> None:
    table = pa.table({"a": list(range(5000)), "b": [f"text {i % 7}" for i in range(5000)], "c": [None, 1] * 2500})
    choices: list[dict[str, Any]] = [
        {},
        {"compression": "none"},
        {"data_page_version": "2.0"},
        {"use_dictionary": False},
    ]
    for options in choices:
        file = io.BytesIO()
        pq.write_table(table, file, row_group_size=1700, **options)
        assert read_whole("x", file.getvalue()).equals(table)


def test_a_group_that_claims_far_more_than_it_holds_is_refused_before_it_is_decoded() -> None:
    zeros = pa.table({"x": pa.array(np.zeros(20_000_000, dtype=np.int64))})
    with pytest.raises(ChunkFileError, match="claims more than"):
        one_group(zeros, compression="zstd", use_dictionary=False, row_group_size=20_000_000)


def test_a_page_that_unpacks_to_more_than_its_footer_says_is_refused_before_it_is_decoded() -> None:
    table = pa.table({"x": pa.array(np.zeros(20_000, dtype=np.int64))})
    _, bomb = one_group(table, compression="zstd", use_dictionary=False)
    small, data = one_group(table.slice(0, 10), compression="zstd", use_dictionary=False)
    span = small.layout.groups[0]
    with pytest.raises(ChunkFileError, match="column 0 of a row group"):
        small.decode(0, bomb[: span.end - span.begin])
    assert small.decode(0, data).num_rows == 10


@pytest.mark.parametrize("data", [b"", b"PAR1", b"\xff" * 8 + b"PAR1", b"\0" * 100, b"x" * 50 + b"\x20\0\0\0PAR1"])
def test_bytes_that_are_no_parquet_file_are_refused(data: bytes) -> None:
    with pytest.raises(ChunkFileError):
        StepTable.from_bytes(data)


def test_no_flipped_byte_raises_anything_but_our_errors(chunk: Chunk) -> None:
    """Wherever a byte changes in file or step table, the check ends with problems, and the reader with our errors."""
    rng = random.Random(7)
    footer = chunk.table().data_end
    for path, lowest in ((chunk.path, footer), (chunk.step_table, 4)):
        whole = path.read_bytes()
        for _ in range(120):
            data = bytearray(whole)
            for _ in range(rng.randrange(1, 4)):
                data[rng.randrange(lowest, len(data))] = rng.randrange(256)
            path.write_bytes(data)
            chunk.problems()
            with contextlib.suppress(ChunkFileError, IntegrityError):
                list(chunk.reader().batches(FIRST_STEP, FIRST_STEP + 2))
        path.write_bytes(whole)
    assert chunk.problems() == []


def test_the_step_table_has_the_documented_columns(chunk: Chunk) -> None:
    assert pq.read_table(chunk.step_table).schema.equals(STEP_TABLE_SCHEMA)
    assert pq.ParquetFile(chunk.step_table).metadata.num_row_groups == 1
