"""Resolved rows against what the trainers' own code answered, to the last id (tests/golden/peers)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from open360.release.order.file_rows import RowSpan
from open360.release.order.order_inputs import OrderInputs, SizedFile
from open360.release.order.resolver import Resolver, UnresolvableOrderError
from open360.release.order.resolving import resolver_of
from open360.release.order.restarted_chunks import within_chunks
from open360.release.order.sample_maps import Documents
from open360.release.order.spans import Shards, StoredFile, spans
from open360.schema.corpus import FileSet
from open360.schema.order import ChunkOrder, FunctionOrder, MaterializedOrder, PermutationFileOrder, UnknownOrder
from tests.support.order_runs import corpus_of, run_of

PEERS = Path(__file__).parents[2] / "golden" / "peers"


def _golden(peer: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((PEERS / f"{peer}.json").read_text())
    return values


def _ids(rows: Iterable[RowSpan], stored: dict[str, list[int]], row_len: int) -> list[list[int]]:
    """The ids of rows of files that hold whole rows each."""
    return [
        stored[span.file][row * row_len : (row + 1) * row_len]
        for span in rows
        for row in range(span.first_row, span.end_row)
    ]


def _steps(resolver: Resolver, stored: dict[str, list[int]], row_len: int, steps: int) -> list[list[list[int]]]:
    return [_ids(batch.rows, stored, row_len) for batch in resolver.batches(0, steps)]


def _sized(golden: dict[str, Any], id_bytes: int) -> tuple[SizedFile, ...]:
    return tuple(SizedFile(path=name, bytes=len(golden["ids"][name]) * id_bytes) for name in golden["listed"])


@pytest.mark.parametrize("case", range(3))
def test_two_epochs_of_olmos_first_trainer_by_its_seed(case: int) -> None:
    golden = _golden("olmo")
    found = golden["cases"][case]
    expected = [step for epoch in found["epochs"] for step in epoch]
    order = FunctionOrder(kind="function", algorithm="numpy-pcg64-shuffle", seed=golden["seed"], epoch_base=0)
    run = run_of(order, found["batch"], len(expected))
    resolver = resolver_of(run, corpus_of(golden["row_len"]), OrderInputs(files=_sized(golden, 2)))
    assert _steps(resolver, golden["ids"], golden["row_len"], len(expected)) == expected


@pytest.mark.parametrize("case", range(3))
def test_two_epochs_of_olmos_first_trainer_by_its_index_files(case: int) -> None:
    golden = _golden("olmo")
    found = golden["cases"][case]
    expected = [step for epoch in found["epochs"] for step in epoch]
    indices = [np.array(epoch, dtype="<u4") for epoch in found["global_indices"]]
    order = PermutationFileOrder(kind="permutation-file", format="raw-uint32", entries=len(indices[0]))
    run = run_of(order, found["batch"], len(expected))
    inputs = OrderInputs(files=_sized(golden, 2), indices=tuple(indices))
    resolver = resolver_of(run, corpus_of(golden["row_len"]), inputs)
    assert _steps(resolver, golden["ids"], golden["row_len"], len(expected)) == expected


@pytest.mark.parametrize("case", range(5))
def test_two_epochs_of_olmo_core_with_groups_and_changing_batches(case: int) -> None:
    golden = _golden("olmo_core")
    found = golden["cases"][case]
    batch = found["batch"] if found["change"] is None else [(0, found["batch"]), tuple(found["change"])]
    order = FunctionOrder(
        kind="function", algorithm="numpy-pcg64-shuffle", seed=golden["seed"], epoch_base=1, chunk_rows=found["group"]
    )
    steps = len(found["steps"])
    corpus = corpus_of(golden["row_len"], dtype="uint32")
    resolver = resolver_of(run_of(order, batch, steps), corpus, OrderInputs(files=_sized(golden, 4)))
    assert _steps(resolver, golden["ids"], golden["row_len"], steps) == found["steps"]


def test_the_golden_values_name_the_numpy_that_they_were_made_with() -> None:
    assert {_golden(peer)["made_with"]["numpy"] for peer in ("olmo", "olmo_core")} == {"1.26.4", "2.4.6"}


def _documents(idx: bytes) -> Documents:
    """The arrays of a Megatron `.idx` of uint16 ids."""
    count = int.from_bytes(idx[18:26], "little")
    sizes = np.frombuffer(idx, dtype="<i4", count=count, offset=34)
    pointers = np.frombuffer(idx, dtype="<i8", count=count, offset=34 + 4 * count)
    return Documents(sizes=sizes, pointers=pointers, id_bytes=2)


def _sampled(case: dict[str, Any], documents: Documents, row_len: int, batch: int) -> Resolver:
    order = PermutationFileOrder(kind="permutation-file", format="neox-index-maps", path="seed1")
    inputs = OrderInputs(
        indices=(np.array(case["shuffle"], dtype=np.uint32),),
        doc=np.array(case["doc"], dtype=np.int32),
        sample=np.array(case["sample"], dtype=np.int64),
        documents=documents,
    )
    corpus = corpus_of(row_len, "bin", seq_len=row_len - 1, overlap=1)
    return resolver_of(run_of(order, batch, len(case["shuffle"]) // batch), corpus, inputs)


def _sample_ids(resolver: Resolver, rows: list[RowSpan], body: bytes) -> list[list[int]]:
    assert resolver.maps is not None
    samples = [row for span in rows for row in range(span.first_row, span.end_row)]
    return [
        [
            int(value)
            for part in parts
            for value in np.frombuffer(body, dtype="<u2", count=part.end - part.begin, offset=part.at)
        ]
        for parts in resolver.maps.parts(samples)
    ]


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_samples_of_megatron_are_cut_out_of_its_documents(case: int, batch: int) -> None:
    golden = _golden("megatron_core")["samples"]
    found, body = golden["cases"][case], bytes.fromhex(golden["bin"])
    resolver = _sampled(found, _documents(bytes.fromhex(golden["idx"])), golden["seq_len"] + 1, batch)
    assert resolver.layout == "samples"
    assert resolver.maps is not None
    for step, first in enumerate(range(0, len(found["rows"]) // batch * batch, batch)):
        rows = resolver.rows(step, step + 1)
        assert _sample_ids(resolver, rows, body) == found["rows"][first : first + batch]
        parts = resolver.maps.parts([row for span in rows for row in range(span.first_row, span.end_row)])
        assert [[part.document for part in row] for row in parts] == found["documents"][first : first + batch]


@pytest.mark.parametrize("case", range(2))
def test_samples_of_gpt_neox_are_cut_out_of_its_documents(case: int) -> None:
    golden = _golden("gpt_neox")
    found = golden["cases"][case]
    sizes = np.array([len(document) for document in golden["documents"]], dtype=np.int32)
    documents = Documents(sizes=sizes, pointers=2 * (np.cumsum(sizes) - sizes), id_bytes=2)
    body = np.concatenate([np.array(document, dtype="<u2") for document in golden["documents"]]).tobytes()
    resolver = _sampled(found, documents, golden["seq_len"] + 1, 1)
    rows = [_sample_ids(resolver, batch.rows, body)[0] for batch in resolver.batches(0, len(found["rows"]))]
    assert rows == found["rows"]


@pytest.mark.parametrize("case", range(2))
def test_windows_of_datatrove_are_rows_of_its_files(case: int) -> None:
    found = _golden("datatrove")["cases"][case]
    row_len, id_bytes = found["seq_len"] + 1, found["id_bytes"]
    files = tuple(SizedFile(path=name, bytes=len(ids) * id_bytes) for name, ids in found["files"].items())
    run = run_of(MaterializedOrder(kind="materialized"), 1, len(found["windows"]))
    corpus = corpus_of(row_len, "ds", f"uint{8 * id_bytes}", seq_len=row_len - 1)
    resolver = resolver_of(run, corpus, OrderInputs(files=files))
    assert _ids(resolver.rows(0, len(found["windows"])), found["files"], row_len) == found["windows"]
    shards = Shards([StoredFile(file.path, file.bytes or 0) for file in files], row_len * id_bytes)
    assert shards.rows == len(found["windows"])


@pytest.mark.parametrize("case", range(3))
def test_rows_inside_a_chunk_of_amber_follow_from_the_restarts(case: int) -> None:
    golden = _golden("amber_train")
    found = golden["cases"][case]
    chunks, rows, batch = len(found["chunks"]), golden["rows"], golden["batch"]
    order = ChunkOrder(
        kind="chunk",
        chunks=((0, chunks - 1),),
        rows_used=rows // batch * batch,
        within=UnknownOrder(kind="unknown", reason="the restarts were not published"),
    )
    files = FileSet(pattern="train/train_{index:03d}.jsonl", count=chunks, rows=rows)
    corpus = corpus_of(1, "jsonl", "json", files)
    run = run_of(order, batch, chunks * (rows // batch))
    with pytest.raises(UnresolvableOrderError, match="restarts were not published"):
        resolver_of(run, corpus).rows(0, 1)
    within = within_chunks(found["starts"], golden["seed"], rows)
    resolver = resolver_of(run, corpus, OrderInputs(within=within))
    stored = {f"train/train_{n:03d}.jsonl": [n * 100 + row for row in range(rows)] for n in range(chunks)}
    expected = [[[row] for row in step] for chunk in found["chunks"] for step in chunk]
    assert _steps(resolver, stored, 1, len(expected)) == expected


def test_a_stream_of_shards_is_the_merged_file_reshaped() -> None:
    """Pythia's viewer maps the merged file and reshapes it to rows; here the shards cut rows and batches."""
    row_len, batch, shard, total = 9, 4, 100, 9 * 4 * 12 + 5
    merged = np.arange(total, dtype="<u2")
    body = merged.tobytes()
    shards = {
        f"document-{i:05d}-of-00009.bin": body[at : at + shard] for i, at in enumerate(range(0, 2 * total, shard))
    }
    files = FileSet(
        pattern="document-{index:05d}-of-00009.bin",
        count=len(shards),
        bytes=shard,
        last_bytes=len(list(shards.values())[-1]),
    )
    corpus = corpus_of(row_len, "bin", files=files, seq_len=row_len - 1)
    resolver = resolver_of(run_of(MaterializedOrder(kind="materialized"), batch, 12), corpus)
    assert resolver.layout == "stream"
    stored = [StoredFile(name, len(part)) for name, part in shards.items()]
    expected = merged[: total // row_len * row_len].reshape(-1, row_len)
    straddling = 0
    for found in resolver.batches(0, 12):
        (rows,) = found.rows
        parts = spans(stored, 2 * row_len, rows.first_row, rows.end_row)
        straddling += len(parts) > 1
        ids = np.frombuffer(b"".join(shards[part.path][part.begin : part.end] for part in parts), dtype="<u2")
        np.testing.assert_array_equal(ids.reshape(-1, row_len), expected[found.step * batch : (found.step + 1) * batch])
    assert straddling


def test_twenty_batches_of_pythia_straddle_shards() -> None:
    files = FileSet(pattern="document-{index:05d}-of-00020.bin", count=21, bytes=30_000_000_000, last_bytes=78_336_000)
    corpus = corpus_of(2049, "bin", files=files, seq_len=2048)
    resolver = resolver_of(run_of(MaterializedOrder(kind="materialized"), 1024, 143_000), corpus)
    stored = [StoredFile(files.file(n), 30_000_000_000 if n < 20 else 78_336_000) for n in range(21)]
    straddling = []
    for border in range(1, 21):
        near = border * 30_000_000_000 // (4098 * 1024)
        for step in (near - 1, near, near + 1):
            (rows,) = resolver.rows(step, step + 1) if step < 143_000 else (RowSpan("", 0, 0),)
            if len(spans(stored, 4098, rows.first_row, rows.end_row)) > 1:
                straddling.append(step)
    assert (len(straddling), straddling[0]) == (20, 7149)
    assert resolver.rows(142_999, 143_000) == [RowSpan("document-{index:05d}-of-00020.bin", 146_430_976, 146_432_000)]
