"""Xorbs and shards: whatever arrives is either understood or refused."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.xet_chunks import SHARD_TAG, Chunk, read_chunk_table, read_shard, unpack_chunk
from open360.release.local_hub.xet_store import XetStore


def raw_chunk(content: bytes) -> bytes:
    size = len(content).to_bytes(3, "little")
    return b"\0" + size + b"\0" + size + content


def shard_of(xorb: str, runs: list[tuple[int, int, int]]) -> bytes:
    """A shard with one file made of runs (size, first chunk, last chunk) of one xorb, without a sha256."""
    xorb_hash = struct.pack("<4Q", *(int(xorb[i : i + 16], 16) for i in range(0, 64, 16)))
    records = [b"f" * 32 + struct.pack("<IIQ", 0, len(runs), 0)]
    records += [xorb_hash + struct.pack("<IIII", 0, size, first, last) for size, first, last in runs]
    return SHARD_TAG + bytes(16) + b"".join(records) + b"\xff" * 32 + bytes(16)


def store_with(folder: Path, chunks: list[bytes]) -> tuple[XetStore, str]:
    store, xorb = XetStore(folder), "ab" * 32
    arrived = folder / "arrived"
    arrived.write_bytes(b"".join(raw_chunk(chunk) for chunk in chunks))
    assert store.add_xorb(xorb, arrived)
    return store, xorb


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.data())
def test_any_range_of_a_file_is_put_together_of_its_chunks(
    tmp_path_factory: object, chunks: list[bytes], data: st.DataObject
) -> None:
    store, xorb = store_with(tmp_path_factory.mktemp("xet"), chunks)  # type: ignore[attr-defined]
    runs = data.draw(st.lists(st.integers(0, len(chunks) - 1), min_size=1, max_size=5))
    wholes = [(first, data.draw(st.integers(first + 1, len(chunks)))) for first in runs]
    content = b"".join(b"".join(chunks[first:last]) for first, last in wholes)
    store.add_shard(shard_of(xorb, [(sum(map(len, chunks[a:b])), a, b) for a, b in wholes]))
    file = store.read("66" * 32)
    start = data.draw(st.integers(0, file.size - 1))
    end = data.draw(st.integers(start + 1, file.size))
    assert b"".join(store.blocks(file, start, end)) == content[start:end]
    offset, pieces = store.pieces(file.terms, start, end)
    fetched = b"".join(b"".join(chunks[piece.first : piece.last]) for piece in pieces)
    assert fetched[offset : offset + end - start] == content[start:end]
    assert [piece.size for piece in pieces] == [sum(map(len, chunks[p.first : p.last])) for p in pieces]


@pytest.mark.parametrize("runs", [[(5, 0, 2)], [(4, 0, 3)], [(4, 1, 1)], [(4, 2, 1)]])
def test_a_shard_that_does_not_fit_its_xorb_is_refused(tmp_path: Path, runs: list[tuple[int, int, int]]) -> None:
    store, xorb = store_with(tmp_path, [b"ab", b"cd"])
    with pytest.raises(RefusalError, match="Malformed shard"):
        store.add_shard(shard_of(xorb, runs))


def test_a_shard_that_names_a_missing_xorb_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusalError, match="was not uploaded"):
        XetStore(tmp_path).add_shard(shard_of("cd" * 32, [(4, 0, 1)]))


@given(st.binary(max_size=300))
def test_a_malformed_shard_is_refused(data: bytes) -> None:
    for candidate in (data, SHARD_TAG + bytes(16) + data):
        try:
            read_shard(candidate)
        except RefusalError:
            continue
        assert b"\xff" * 32 in candidate


@given(st.binary(min_size=1, max_size=200))
def test_a_malformed_xorb_is_refused_or_covered_by_its_chunks(tmp_path_factory: object, data: bytes) -> None:
    path = tmp_path_factory.mktemp("xorb") / "x"  # type: ignore[attr-defined]
    path.write_bytes(data)
    try:
        chunks = read_chunk_table(path)
    except RefusalError:
        return
    assert data.startswith(b"XETBLOB") or (chunks[0].start == 0 and chunks[-1].end <= len(data))


@given(st.binary(max_size=100), st.integers(0, 2), st.integers(0, 1000))
def test_a_chunk_unpacks_to_its_size_or_is_refused(data: bytes, scheme: int, size: int) -> None:
    chunk = Chunk(start=0, end=8 + len(data), size=size, scheme=scheme)
    with contextlib.suppress(RefusalError):
        assert len(unpack_chunk(bytes(8) + data, chunk)) == size
