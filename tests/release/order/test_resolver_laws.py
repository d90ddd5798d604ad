"""Laws of resolvers, against a trainer that takes rows one by one."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from open360.release.order.file_rows import joined
from open360.release.order.order_inputs import OrderInputs, SizedFile
from open360.release.order.resolver import Resolver
from open360.release.order.resolving import resolver_of
from open360.release.order.sample_maps import Documents
from open360.release.order.spans import OrderError
from open360.schema.corpus import FileSet
from open360.schema.model import StepFunction
from open360.schema.order import (
    ChunkOrder,
    FileOrder,
    FunctionOrder,
    MaterializedOrder,
    PermutationFileOrder,
)
from open360.schema.run import Restart
from tests.support.order_runs import FarArray, corpus_of, rows_in, run_of, shuffled_by_hand

Stored = tuple[str, int]
ROW_LEN = 4


@dataclass
class Trained:
    """A resolver, and the rows of every step as a trainer took them."""

    resolver: Resolver
    steps: list[list[Stored]]
    stored: list[Stored]


def _train(batches: list[int], epochs: list[list[Stored]], first: int = 0) -> list[list[Stored]]:
    """Take batches out of epochs, each a list of rows; what fills no batch at the end of an epoch is dropped."""
    steps: list[list[Stored]] = []
    epoch, at = 0, first
    for size in batches:
        while at + size > len(epochs[epoch]):
            epoch, at = epoch + 1, 0
        steps.append(epochs[epoch][at : at + size])
        at += size
    return steps


def _schedule(draw: st.DrawFn, most: int, steps: int) -> list[tuple[int, int]]:
    changes = sorted(draw(st.sets(st.integers(1, max(steps - 1, 1)), max_size=3)))
    return [(step, draw(st.integers(1, most))) for step in [0, *changes]]


def _batches(pieces: list[tuple[int, int]], steps: int) -> list[int]:
    batch = StepFunction[int](tuple(pieces))
    return [batch.at(step) for step in range(steps)]


def _files(draw: st.DrawFn, group: int = 1) -> tuple[tuple[SizedFile, ...], list[Stored]]:
    """Files of whole rows with tails, some of them listed twice, and the rows of all in order."""
    ids = draw(st.lists(st.integers(0, 30), min_size=1, max_size=6))
    listed = [*range(len(ids)), *draw(st.lists(st.integers(0, len(ids) - 1), max_size=2))]
    files = tuple(SizedFile(path=f"f{i}", bytes=2 * ids[i]) for i in listed)
    rows = [(f"f{i}", row) for i in listed for row in range(ids[i] // (ROW_LEN * group) * group)]
    return files, rows


@st.composite
def materialized(draw: st.DrawFn) -> Trained:
    files, rows = _files(draw)
    first = draw(st.integers(0, len(rows)))
    steps = draw(st.integers(1, 12))
    pieces = _schedule(draw, 5, steps)
    batches = _batches(pieces, steps)
    while sum(batches) > len(rows) - first:
        batches.pop()
    assume(batches)
    order = MaterializedOrder(kind="materialized", first_row=first)
    run = run_of(order, [p for p in pieces if p[0] < len(batches)], len(batches))
    resolver = resolver_of(run, corpus_of(ROW_LEN), OrderInputs(files=files))
    return Trained(resolver, _train(batches, [rows], first), rows)


@st.composite
def chunked(draw: st.DrawFn) -> Trained:
    count, used = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    stored = used + draw(st.integers(0, 2))
    sequence = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    batch = draw(st.sampled_from([b for b in range(1, 7) if used * len(sequence) % b == 0]))
    order = ChunkOrder(
        kind="chunk", chunks=tuple((n, n) for n in sequence), rows_used=used, within=FileOrder(kind="file")
    )
    files = FileSet(pattern="chunk_{index}.jsonl", count=count, rows=stored)
    rows = [(f"chunk_{n}.jsonl", row) for n in sequence for row in range(used)]
    steps = len(rows) // batch
    resolver = resolver_of(run_of(order, batch, steps), corpus_of(ROW_LEN, "jsonl", "json", files))
    every = [(f"chunk_{n}.jsonl", row) for n in set(sequence) for row in range(stored)]
    return Trained(resolver, _train([batch] * steps, [rows]), every)


@st.composite
def function(draw: st.DrawFn) -> Trained:
    group, base, seed = draw(st.integers(1, 3)), draw(st.integers(0, 1)), draw(st.integers(0, 2**31))
    files, rows = _files(draw, group)
    assume(rows)
    steps = draw(st.integers(1, 15))
    first = draw(st.integers(0, len(rows) - 1))
    pieces = _schedule(draw, max(len(rows) // 2, 1), steps)
    restarted = draw(st.none() | st.tuples(st.integers(0, steps - 1), st.integers(0, 9)))
    restarts = () if restarted is None else (Restart(at=steps, restored=restarted[0], seed=restarted[1]),)
    order = FunctionOrder(
        kind="function", algorithm="numpy-pcg64-shuffle", seed=seed, epoch_base=base, chunk_rows=group, first_row=first
    )
    run = run_of(order, [p for p in pieces if p[0] < steps], steps, restarts=restarts)
    resolver = resolver_of(run, corpus_of(ROW_LEN), OrderInputs(files=files))

    def trained(of: int) -> list[list[Stored]]:
        epochs = [
            [rows[i] for i in shuffled_by_hand(len(rows), group, of + base + epoch)] for epoch in range(steps + 2)
        ]
        return _train(_batches(pieces, steps), epochs, first)

    taken = trained(seed)
    if restarted is not None:
        taken = taken[: restarted[0]] + trained(restarted[1])[restarted[0] :]
    return Trained(resolver, taken, rows)


@st.composite
def indexed(draw: st.DrawFn) -> Trained:
    files, rows = _files(draw)
    assume(rows)
    epochs = [draw(st.permutations(range(len(rows)))) for _ in range(draw(st.integers(1, 3)))]
    batch = draw(st.integers(1, len(rows)))
    steps = draw(st.integers(1, len(rows) // batch * len(epochs)))
    arrays = tuple(FarArray(np.array(epoch, dtype=np.uint32)) for epoch in epochs)
    run = run_of(PermutationFileOrder(kind="permutation-file", format="raw-uint32"), batch, steps)
    resolver = resolver_of(run, corpus_of(ROW_LEN), OrderInputs(files=files, indices=arrays))
    return Trained(resolver, _train([batch] * steps, [[rows[i] for i in epoch] for epoch in epochs]), rows)


ALL = st.one_of(materialized(), chunked(), function(), indexed())


@given(ALL)
def test_every_batch_holds_the_rows_that_a_trainer_takes(trained: Trained) -> None:
    steps = len(trained.steps)
    assert [rows_in(batch.rows) for batch in trained.resolver.batches(0, steps)] == trained.steps
    assert [batch.step for batch in trained.resolver.batches(0, steps)] == list(range(steps))


@given(ALL, st.data())
def test_a_range_of_steps_may_be_split_anywhere(trained: Trained, data: st.DataObject) -> None:
    steps = len(trained.steps)
    first = data.draw(st.integers(0, steps))
    end = data.draw(st.integers(first, steps))
    middle = data.draw(st.integers(first, end))
    whole = trained.resolver.rows(first, end)
    assert joined([*trained.resolver.rows(first, middle), *trained.resolver.rows(middle, end)]) == whole
    assert rows_in(whole) == list(itertools.chain(*trained.steps[first:end]))
    assert all(a.file != b.file or a.end_row != b.first_row for a, b in itertools.pairwise(whole))


@given(ALL)
def test_the_steps_of_a_row_are_the_steps_that_hold_it(trained: Trained) -> None:
    for file, row in set(trained.stored):
        expected = [step for step, rows in enumerate(trained.steps) if (file, row) in rows]
        assert trained.resolver.steps_of(file, row) == expected


@given(function())
def test_an_epoch_holds_every_row_once_or_drops_it_at_its_end(trained: Trained) -> None:
    """Of an order that is not restarted: no row twice before the epoch is over."""
    resolver = trained.resolver
    if resolver.run.restarts:
        return
    listed = Counter(trained.stored)
    first = resolver.run.order.first_row if isinstance(resolver.run.order, FunctionOrder) else 0
    taken, left = Counter[Stored](), len(trained.stored) - first
    for rows in trained.steps:
        if len(rows) > left:
            taken, left = Counter(), len(trained.stored)
        taken.update(rows)
        left -= len(rows)
        assert all(taken[row] <= listed[row] for row in rows)
        assert taken.total() <= len(trained.stored)


HOSTILE = st.integers(-(2**40), 2**40)


@given(
    st.lists(HOSTILE, max_size=6),
    st.lists(st.tuples(HOSTILE, HOSTILE), max_size=6),
    st.lists(HOSTILE, max_size=6),
    st.lists(st.integers(-5, 50), max_size=6),
)
def test_index_maps_that_contradict_themselves_are_refused(
    doc: list[int], sample: list[tuple[int, int]], shuffle: list[int], sizes: list[int]
) -> None:
    order = PermutationFileOrder(kind="permutation-file", format="neox-index-maps", path="seed1")
    lengths = np.array(sizes, dtype=np.int64)
    inputs = OrderInputs(
        indices=(np.array(shuffle, dtype=np.int64),),
        doc=np.array(doc, dtype=np.int64),
        sample=np.array(sample, dtype=np.int64).reshape(-1, 2),
        documents=Documents(sizes=lengths, pointers=np.cumsum(lengths), id_bytes=2),
    )
    resolver = resolver_of(run_of(order, 1, 3), corpus_of(ROW_LEN, "bin"), inputs)
    assert resolver.maps is not None
    try:
        parts = resolver.maps.parts([row for _, row in rows_in(resolver.rows(0, 3))])
    except OrderError:
        return
    assert all(sum(part.end - part.begin for part in row) == ROW_LEN for row in parts)
