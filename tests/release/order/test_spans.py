"""Byte ranges of rows over files: compared with cutting the bytes themselves."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.order.spans import OrderError, Shards, Span, StoredFile, merged, rows_of_stream, spans

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=8)


def _files(sizes: list[int], begin: int = 0) -> tuple[list[StoredFile], dict[str, bytes]]:
    stream = bytes(i % 251 for i in range(sum(sizes)))
    files, content, at = [], {}, 0
    for number, size in enumerate(sizes):
        content[f"f{number}"] = b"h" * begin + stream[at : at + size]
        files.append(StoredFile(f"f{number}", begin + size, begin))
        at += size
    return files, content


def _read(found: list[Span], content: dict[str, bytes]) -> bytes:
    return b"".join(content[span.path][span.begin : span.end] for span in found)


@given(SIZES, st.integers(1, 17), st.integers(0, 5), st.data())
def test_rows_of_a_stream_are_cut_out_of_the_joined_files(
    sizes: list[int], row_bytes: int, header: int, data: st.DataObject
) -> None:
    files, content = _files(sizes, header)
    stream = b"".join(body[header:] for body in content.values())
    rows = rows_of_stream(files, row_bytes)
    assert rows == len(stream) // row_bytes
    first = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(first, rows))
    found = spans(files, row_bytes, first, end)
    assert _read(found, content) == stream[first * row_bytes : end * row_bytes]
    assert all(span.begin < span.end for span in found)
    assert len({span.path for span in found}) == len(found)


@given(SIZES, st.integers(1, 17), st.integers(1, 9))
def test_rows_beyond_the_stream_are_refused(sizes: list[int], row_bytes: int, beyond: int) -> None:
    files, _ = _files(sizes)
    rows = rows_of_stream(files, row_bytes)
    with pytest.raises(OrderError):
        spans(files, row_bytes, rows, rows + beyond)
    with pytest.raises(OrderError):
        spans(files, row_bytes, -beyond, 0)


@given(SIZES, st.integers(1, 17), st.integers(0, 5))
def test_shards_hold_whole_rows_and_drop_their_tails(sizes: list[int], row_bytes: int, header: int) -> None:
    files, content = _files(sizes, header)
    rows = [
        body[at : at + row_bytes]
        for body in content.values()
        for at in range(header, len(body) - row_bytes + 1, row_bytes)
    ]
    shards = Shards(files, row_bytes)
    assert shards.rows == len(rows)
    assert [_read([shards.span(row)], content) for row in range(len(rows))] == rows
    with pytest.raises(OrderError):
        shards.span(len(rows))


def test_a_file_that_is_listed_twice_gives_its_rows_two_numbers() -> None:
    shards = Shards([StoredFile("a", 25), StoredFile("b", 10), StoredFile("a", 25)], 10)
    assert [shards.span(row) for row in range(5)] == [
        Span("a", 0, 10), Span("a", 10, 20), Span("b", 0, 10), Span("a", 0, 10), Span("a", 10, 20)
    ]  # fmt: skip


def test_batches_of_pythia_lie_where_a_third_party_found_them() -> None:
    sizes = [30_000_000_000] * 20 + [78_336_000]
    files = [StoredFile(f"document-{i:05d}-of-00020.bin", size) for i, size in enumerate(sizes)]
    assert rows_of_stream(files, 4098) == 146_432_000
    batches = {n: spans(files, 4098, 1024 * n, 1024 * (n + 1)) for n in (0, 7148, 7149, 142_999)}
    assert batches[0] == [Span("document-00000-of-00020.bin", 0, 4_196_352)]
    assert len(batches[7148]) == 1
    assert [span.path[9:14] for span in batches[7149]] == ["00000", "00001"]
    assert sum(span.end - span.begin for span in batches[7149]) == 4_196_352


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 9)), max_size=30), st.integers(0, 5)
)
def test_merged_spans_hold_all_that_was_wanted_and_lie_apart(wanted: list[tuple[str, int, int]], gap: int) -> None:
    spans_wanted = [Span(path, begin, begin + size) for path, begin, size in wanted]
    found = merged(spans_wanted, gap)
    for span in spans_wanted:
        assert any(f.path == span.path and f.begin <= span.begin and span.end <= f.end for f in found)
    for one, other in itertools.pairwise(found):
        assert one.path < other.path or one.end + gap < other.begin
