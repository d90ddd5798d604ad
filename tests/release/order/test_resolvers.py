"""Resolvers case by case: borders, refusals, reasons, and what real releases say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from open360.release.order.file_rows import RowSpan
from open360.release.order.order_inputs import OrderInputs, SizedFile, needs
from open360.release.order.resolver import ChunkResolver, StepOutsideRunError, UnresolvableOrderError
from open360.release.order.resolving import resolver_of
from open360.release.order.spans import OrderError
from open360.schema.corpus import Corpus, FileSet
from open360.schema.order import (
    ChunkOrder,
    FileOrder,
    FunctionOrder,
    MaterializedOrder,
    PermutationFileOrder,
    UnknownOrder,
)
from open360.schema.run import Restart, Run, StepSpan
from open360.schema.schedule import segments
from open360.schema.series import Series
from tests.support.order_runs import FarArray, corpus_of, rows_in, run_of, shuffled_by_hand

Stored = tuple[str, int]
ROW_LEN = 4

ROW_LEN = 4


@pytest.mark.parametrize("group", [1, 2, 5])
def test_batches_of_one_row_go_through_every_row_of_each_epoch(group: int) -> None:
    files = tuple(SizedFile(path=f"f{i}", bytes=2 * ids) for i, ids in enumerate((4 * 10 * group + 3, 0, 4 * group)))
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=1, epoch_base=1, chunk_rows=group)
    rows = 11 * group
    resolver = resolver_of(run_of(order, 1, 3 * rows), corpus_of(ROW_LEN), OrderInputs(files=files))
    epochs = [rows_in(resolver.rows(e * rows, (e + 1) * rows)) for e in range(3)]
    assert all(len(set(epoch)) == rows for epoch in epochs)
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_that_ends_inside_a_batch_drops_what_is_left() -> None:
    files = (SizedFile(path="f", rows=10),)
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=5)
    resolver = resolver_of(run_of(order, 4, 5), corpus_of(ROW_LEN), OrderInputs(files=files))
    first, second, third = shuffled_by_hand(10, 1, 5), shuffled_by_hand(10, 1, 6), shuffled_by_hand(10, 1, 7)
    expected = [first[:4], first[4:8], second[:4], second[4:8], third[:4]]
    assert [[row for _, row in rows_in(b.rows)] for b in resolver.batches(0, 5)] == expected
    assert resolver.steps_of("f", first[9]) == [step for step, rows in enumerate(expected) if first[9] in rows]


@pytest.mark.parametrize(("first", "end"), [(-1, 1), (0, 6), (5, 6), (3, 2)])
def test_batches_outside_of_the_run_are_refused(first: int, end: int) -> None:
    run = run_of(MaterializedOrder(kind="materialized"), 1, 5)
    resolver = resolver_of(run, corpus_of(ROW_LEN), OrderInputs(files=(SizedFile(path="f", rows=5),)))
    for ask in (resolver.rows, resolver.batches):
        with pytest.raises(StepOutsideRunError, match="expected: 0 to 4"):
            ask(first, end)
    assert resolver.rows(5, 5) == []
    assert resolver.rows(4, 5) == [RowSpan("f", 4, 5)]


def test_a_stored_order_is_resolved_from_declared_sizes_alone() -> None:
    files = FileSet(pattern="d-{index}.bin", count=1_000_000, bytes=30_000_000_000, last_bytes=6)
    run = run_of(MaterializedOrder(kind="materialized"), 1 << 20, None)
    assert needs(run, corpus_of(3, "bin", files=files)).measure == "nothing"
    resolver = resolver_of(run, corpus_of(3, "bin", files=files))
    last = (999_999 * 30_000_000_000 + 6) // 6 // (1 << 20)
    assert resolver.rows(last - 1, last) == [RowSpan("d-{index}.bin", (last - 1) << 20, last << 20)]
    with pytest.raises(OrderError, match="rows are stored"):
        resolver.rows(last, last + 1)
    assert resolver.steps_of("d-{index}.bin", last << 20) == [last]


def test_only_the_asked_entries_of_an_index_file_are_read() -> None:
    array = FarArray(np.arange(1_000_000, dtype=np.uint32)[::-1])
    run = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32"), 1000, 1000)
    inputs = OrderInputs(files=(SizedFile(path="f", rows=1_000_000),), indices=(array,))
    resolver = resolver_of(run, corpus_of(ROW_LEN), inputs)
    assert len(rows_in(resolver.rows(500, 501))) == 1000
    assert array.asked == 1000


def test_an_entry_beyond_the_data_is_named() -> None:
    run = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32"), 2, 2)
    inputs = OrderInputs(files=(SizedFile(path="f", rows=4),), indices=(np.array([0, 3, 9, 1], dtype=np.uint32),))
    resolver = resolver_of(run, corpus_of(ROW_LEN), inputs)
    assert rows_in(resolver.rows(0, 1)) == [("f", 0), ("f", 3)]
    with pytest.raises(OrderError, match="entry 2 points to row 9, the data hold 4 rows"):
        resolver.rows(1, 2)


def test_an_epoch_whose_index_file_is_not_known_is_not_guessed() -> None:
    run = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32"), 2, 4)
    inputs = OrderInputs(files=(SizedFile(path="f", rows=4),), indices=(np.arange(4, dtype=np.uint32),))
    resolver = resolver_of(run, corpus_of(ROW_LEN), inputs)
    with pytest.raises(OrderError, match="batches of a later one are asked for"):
        resolver.rows(2, 3)


def test_an_index_file_of_another_length_than_declared_is_refused() -> None:
    run = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32", entries=5), 2, 2)
    inputs = OrderInputs(files=(SizedFile(path="f", rows=4),), indices=(np.arange(4, dtype=np.uint32),))
    with pytest.raises(OrderError, match="5 entries are declared, it has 4"):
        resolver_of(run, corpus_of(ROW_LEN), inputs)


K2_CHUNKS = ((0, 15), (32, 37), (44, 51), (16, 31), (38, 43), (52, 159), (161, 185), (187, 359), (160, 160), (186, 186))


def _k2() -> tuple[Run, Corpus]:
    order = ChunkOrder(kind="chunk", chunks=K2_CHUNKS, rows_used=1_919_640, within=FileOrder(kind="file"))
    run = run_of(order, 2040, 338_760)
    series = Series(name="ckpt_{index:03d}", every=941, first_index=1)
    files = FileSet(pattern="chunk_{index}.jsonl", count=360, rows=1_919_640)
    return run.model_copy(update={"series": series}), corpus_of(2048, "jsonl", "json", files)


def test_chunks_of_k2_follow_its_permutation() -> None:
    run, corpus = _k2()
    resolver = resolver_of(run, corpus)
    published = [*range(16), *range(32, 38), *range(44, 52)]  # as its trainer writes them
    published += [chunk for chunk in range(360) if chunk not in published]
    published = [*published[:160], *published[161:], published[160]]
    published = [*published[:185], *published[186:], published[185]]
    found = {segment.name: resolver.chunk(segment) for segment in segments(run, corpus)}
    assert [found[f"ckpt_{index:03d}"].number for index in range(1, 361)] == published
    assert found["ckpt_017"].file == "chunk_32.jsonl"
    assert (found["ckpt_017"].first_step, found["ckpt_017"].end_step) == (16 * 941, 17 * 941)
    assert resolver.rows(16 * 941, 17 * 941) == [RowSpan("chunk_32.jsonl", 0, 1_919_640)]
    assert isinstance(resolver, ChunkResolver)
    assert resolver.steps_of_chunk("chunk_160.jsonl") == [(358 * 941, 359 * 941)]


def test_an_unknown_order_inside_chunks_still_tells_the_chunk() -> None:
    order = ChunkOrder(
        kind="chunk",
        chunks=((0, 359),),
        rows_used=1_706_880,
        within=UnknownOrder(kind="unknown", reason="restarts were not published"),
    )
    run = run_of(order, 2240, 360 * 762)
    files = FileSet(pattern="train/train_{index:03d}.jsonl", count=360, rows=1_706_976)
    resolver = resolver_of(run, corpus_of(2049, "jsonl", "json", files, seq_len=2048))
    assert not resolver.exact
    assert resolver.reason == "restarts were not published"
    (part,) = resolver.chunks(143 * 762, 144 * 762)
    assert (part.number, part.file, part.rows_used) == (143, "train/train_143.jsonl", 1_706_880)
    assert [p.number for p in resolver.chunks(144 * 762 - 1, 144 * 762 + 1)] == [143, 144]
    for ask in (lambda: resolver.rows(0, 1), lambda: resolver.steps_of("train/train_000.jsonl", 3)):
        with pytest.raises(UnresolvableOrderError, match="restarts were not published"):
            ask()


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (UnknownOrder(kind="unknown", reason="it depends on ranks"), "it depends on ranks"),
        (FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=1, resolvable=False), "not public"),
        (FunctionOrder(kind="function", algorithm="levanter-feistel", seed=1), "levanter-feistel"),
        (FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle"), "its seed is not declared"),
    ],
)
def test_what_nobody_can_say_is_said_with_the_reason(order: Any, reason: str) -> None:
    run = run_of(order, 1, 5)
    resolver = resolver_of(run, corpus_of(ROW_LEN))
    assert not resolver.exact
    assert reason in (resolver.reason or "")
    for ask in (
        lambda: resolver.rows(0, 1),
        lambda: resolver.batches(0, 1),
        lambda: resolver.steps_of("f", 0),
        lambda: needs(run, corpus_of(ROW_LEN)),
    ):
        with pytest.raises(UnresolvableOrderError, match=reason):
            ask()


def test_steps_that_were_skipped_are_marked_and_keep_their_rows() -> None:
    span = StepSpan(first=1, last=2, reason="the loss rose")
    run = run_of(MaterializedOrder(kind="materialized"), 2, 4, skipped=(span,))
    resolver = resolver_of(run, corpus_of(ROW_LEN), OrderInputs(files=(SizedFile(path="f", rows=8),)))
    assert [batch.skipped for batch in resolver.batches(0, 4)] == [None, span, span, None]
    assert [rows_in(batch.rows)[0][1] for batch in resolver.batches(0, 4)] == [0, 2, 4, 6]


def test_a_restart_with_the_same_seed_changes_nothing_and_one_of_an_unknown_seed_is_no_guess() -> None:
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=5)
    inputs = OrderInputs(files=(SizedFile(path="f", rows=50),))
    plain = resolver_of(run_of(order, 4, 10), corpus_of(ROW_LEN), inputs)
    same = resolver_of(
        run_of(order, 4, 10, restarts=(Restart(at=7, restored=6, seed=5), Restart(at=9, restored=6))),
        corpus_of(ROW_LEN),
        inputs,
    )
    assert same.rows(0, 10) == plain.rows(0, 10)
    back = resolver_of(
        run_of(order, 4, 10, restarts=(Restart(at=7, restored=6, seed=8), Restart(at=9, restored=4))),
        corpus_of(ROW_LEN),
        inputs,
    )
    assert back.rows(0, 4) == plain.rows(0, 4)
    with pytest.raises(UnresolvableOrderError, match="from step 4 on"):
        back.rows(4, 5)


def test_a_seed_of_the_run_stands_for_one_of_the_order() -> None:
    inputs = OrderInputs(files=(SizedFile(path="f", rows=9),))
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle")
    resolver = resolver_of(run_of(order, 9, 1, seed=77), corpus_of(ROW_LEN), inputs)
    assert [row for _, row in rows_in(resolver.rows(0, 1))] == shuffled_by_hand(9, 1, 77)


def test_a_batch_larger_than_an_epoch_is_refused() -> None:
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=1)
    with pytest.raises(OrderError, match="an epoch has only 3 rows"):
        resolver_of(run_of(order, 4, 2), corpus_of(ROW_LEN), OrderInputs(files=(SizedFile(path="f", rows=3),)))


def test_what_is_needed_is_said_before_it_is_fetched() -> None:
    listed = FileSet(listed="https://example.org/mix.txt", count=3)
    function = run_of(FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=1), 1, 5)
    asked = needs(function, corpus_of(ROW_LEN, files=listed))
    assert (asked.listed, asked.files, asked.measure) == ("https://example.org/mix.txt", None, "bytes")
    named = FileSet(pattern="part-{index:03d}.npy", count=2)
    asked = needs(function, corpus_of(ROW_LEN, files=named))
    assert (asked.files, asked.measure) == (("part-000.npy", "part-001.npy"), "bytes")
    rows = run_of(MaterializedOrder(kind="materialized"), 1, 5)
    assert needs(rows, corpus_of(ROW_LEN, "parquet", files=named)).measure == "rows"
    url = "https://example.org/global_indices.npy"
    stored = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32", url=url), 1, 5)
    assert [(file.part, file.url) for file in needs(stored, corpus_of(ROW_LEN, files=named)).index_files] == [
        ("indices", url)
    ]
    maps = PermutationFileOrder(kind="permutation-file", format="neox-index-maps", repo="org/seeds", path="seed1")
    asked = needs(run_of(maps, 1, 5), corpus_of(ROW_LEN, "bin", files=named))
    assert [file.part for file in asked.index_files] == ["doc", "sample", "shuffle"]
    assert asked.documents
    with pytest.raises(UnresolvableOrderError, match="hand in what 'needs' asks for"):
        resolver_of(function, corpus_of(ROW_LEN, files=listed))
