"""The pieces that resolvers are made of: what they refuse, and their borders."""

from __future__ import annotations

import numpy as np
import pytest

from open360.release.order.file_rows import FileRows, RowSpan
from open360.release.order.order_inputs import OrderInputs, SizedFile, declared_sizes
from open360.release.order.resolver import Resolver
from open360.release.order.resolving import resolver_of
from open360.release.order.row_orders import ChunkedOrder, IndexedOrder, KeptShuffles, ShuffledOrder
from open360.release.order.sample_maps import Documents, DocumentSpan, SampleMaps
from open360.release.order.spans import OrderError
from open360.schema.corpus import FileSet
from open360.schema.order import ChunkOrder, FileOrder, MaterializedOrder
from tests.support.order_runs import corpus_of, run_of


def test_the_last_row_of_the_files_is_found_and_the_one_after_it_refused() -> None:
    files = FileRows([("a", 3), ("empty", 0), ("b", 2)])
    assert list(files.spans(range(5))) == [RowSpan("a", 0, 3), RowSpan("b", 0, 2)]
    assert list(files.spans(np.array([4, 2]))) == [RowSpan("b", 1, 2), RowSpan("a", 2, 3)]
    for numbers in (range(4, 6), range(-1, 2), np.array([0, 5]), np.array([-1])):
        with pytest.raises(OrderError, match="3 files hold 5 rows in all"):
            list(files.spans(numbers))
    for file, row in (("a", 3), ("a", -1), ("c", 0)):
        with pytest.raises(OrderError):
            files.numbers(file, row)


def test_an_entry_just_beyond_the_data_or_below_it_is_refused() -> None:
    for wrong in (4, -1):
        order = IndexedOrder("indices", [np.array([3, wrong])], stored=4)
        with pytest.raises(OrderError, match=f"entry 1 points to row {wrong}"):
            order.numbers(0, 0, 2)
    with pytest.raises(OrderError, match="expected index arrays of one length"):
        IndexedOrder("indices", [np.arange(3), np.arange(4)], stored=4)


def test_rows_that_fill_no_group_are_left_out() -> None:
    order = ShuffledOrder(stored=11, seed=1, epoch_base=0, group=3, shuffle=KeptShuffles())
    assert order.rows == 9
    assert sorted(np.asarray(order.numbers(0, 0, 9)).tolist()) == list(range(9))
    assert order.places(0, [9, 10]) == []
    with pytest.raises(OrderError, match="an epoch has 9 rows"):
        order.numbers(0, 0, 10)


def test_an_order_inside_chunks_has_to_name_their_rows() -> None:
    for wrong in (np.array([0, 1]), np.array([0, 1, 3])):
        order = ChunkedOrder(chunks=1, stored=3, used=2, within=lambda _, wrong=wrong: wrong)
        with pytest.raises(OrderError, match="expected numbers of 3 rows"):
            order.numbers(0, 0, 2)


def _chunks(batch: int, steps: int) -> Resolver:
    order = ChunkOrder(kind="chunk", chunks=((3, 3), (1, 2)), rows_used=6, within=FileOrder(kind="file"))
    files = FileSet(pattern="c{index}", first=1, count=3, rows=7)
    return resolver_of(run_of(order, batch, steps), corpus_of(4, "jsonl", "json", files))


def test_chunks_of_a_range_of_steps_end_where_the_next_one_begins() -> None:
    parts = _chunks(2, 9).chunks(1, 8)
    assert [(part.number, part.file, part.first_step, part.end_step) for part in parts] == [
        (3, "c3", 1, 3),
        (1, "c1", 3, 6),
        (2, "c2", 6, 8),
    ]
    assert _chunks(2, 9).chunks(4, 4) == []


def test_a_batch_over_a_border_belongs_to_both_chunks() -> None:
    parts = _chunks(9, 2).chunks(0, 2)
    assert [(part.number, part.first_step, part.end_step) for part in parts] == [(3, 0, 1), (1, 0, 2), (2, 1, 2)]
    assert _chunks(9, 2).rows(0, 1) == [RowSpan("c3", 0, 6), RowSpan("c1", 0, 3)]
    assert _chunks(9, 2).steps_of("c1", 3) == [1]
    assert _chunks(9, 2).steps_of("c1", 6) == []  # the seventh row of a chunk is dropped


def test_a_chunk_without_a_file_and_one_of_too_few_rows_are_refused() -> None:
    order = ChunkOrder(kind="chunk", chunks=((0, 1),), rows_used=6, within=FileOrder(kind="file"))
    for count, rows, problem in ((1, 6, "corpus 'mix' has no such file"), (2, 5, "chunks that hold 5")):
        files = FileSet(pattern="c{index}", count=count, rows=rows)
        with pytest.raises(OrderError, match=problem):
            resolver_of(run_of(order, 2, 6), corpus_of(4, "jsonl", "json", files))


@pytest.mark.parametrize(("ids", "rows"), [(9, 1), (16, 1), (17, 2), (25, 3), (0, 0)])
def test_rows_of_a_stream_that_overlap_share_ids(ids: int, rows: int) -> None:
    inputs = OrderInputs(files=(SizedFile(path="a", bytes=ids + 32, begin=32), SizedFile(path="b", bytes=ids)))
    corpus = corpus_of(9, "bin", seq_len=8, overlap=1)
    resolver = resolver_of(run_of(MaterializedOrder(kind="materialized"), 1, None), corpus, inputs)
    if rows:
        assert resolver.rows(0, rows) == [RowSpan("mix", 0, rows)]
    with pytest.raises(OrderError):
        resolver.rows(0, rows + 1)


def test_the_last_file_of_a_set_may_hold_fewer_rows() -> None:
    files = FileSet(pattern="f{index}", count=3, rows=10, total_rows=24)
    assert [file.rows for file in declared_sizes(files) or ()] == [10, 10, 4]
    corpus = corpus_of(4, "parquet", files=files)
    resolver = resolver_of(run_of(MaterializedOrder(kind="materialized"), 8, 3), corpus)
    assert resolver.rows(2, 3) == [RowSpan("f1", 6, 10), RowSpan("f2", 0, 4)]


def _maps(sample: list[tuple[int, int]], doc: tuple[int, ...] = (1, 0, 2)) -> SampleMaps:
    sizes = np.array([5, 3, 4], dtype=np.int32)
    documents = Documents(sizes=sizes, pointers=2 * (np.cumsum(sizes) - sizes), id_bytes=2)
    return SampleMaps("maps", doc=np.array(doc), sample=np.array(sample), documents=documents, row_len=5)


def test_a_sample_goes_on_into_the_next_documents_and_one_id_further() -> None:
    maps = _maps([(0, 0), (1, 1), (2, 0), (2, 3)])
    assert maps.parts([0, 1]) == [
        [DocumentSpan(1, 0, 3, 10), DocumentSpan(0, 0, 2, 0)],
        [DocumentSpan(0, 1, 5, 2), DocumentSpan(2, 0, 1, 16)],
    ]
    assert maps.parts([]) == []


@pytest.mark.parametrize(
    ("sample", "doc", "problem"),
    [
        ([(0, 0), (1, 2)], (1, 0, 2), "a sample has 6 ids, expected 5"),
        ([(0, 2), (1, 0)], (1, 0, 2), "a sample has 2 ids, expected 5"),
        ([(0, 4), (1, 3)], (1, 0, 2), "ids 4 to 3 of document 1, which has 3"),
        ([(1, 2), (1, 6)], (1, 0, 2), "ids 2 to 7 of document 0, which has 5"),
        ([(1, 0), (0, 4)], (1, 0, 2), "lie outside of its 3 documents"),
        ([(0, 0), (3, 0)], (1, 0, 2), "lie outside of its 3 documents"),
        ([(0, -1), (1, 0)], (1, 0, 2), "lie outside of its 3 documents"),
        ([(0, 0), (1, 1)], (1, 3, 2), "it names document 3, the data hold 3"),
        ([(0, 0), (1, 1)], (1, -1, 2), "it names document -1"),
    ],
)
def test_maps_that_contradict_the_documents_are_refused(
    sample: list[tuple[int, int]], doc: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(OrderError, match=problem):
        _maps(sample, doc).parts([0])


def test_samples_that_the_maps_do_not_hold_are_refused() -> None:
    for asked in ([1], [-1], [0, 7]):
        with pytest.raises(OrderError, match="it holds 1"):
            _maps([(0, 0), (1, 1)]).parts(asked)


def test_a_sample_of_very_many_documents_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open360.release.order.sample_maps.MAX_DOCUMENTS", 2)
    with pytest.raises(OrderError, match="more than 2 documents"):
        _maps([(0, 2), (2, 0)]).parts([0])
