"""Rows in JSON lines: plain and packed, with a line index and without, read no further than needed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from open360.release.formats import indexing, json_lines
from open360.release.formats.indexing import index_lines, verify_line_index
from open360.release.formats.json_lines import JsonReader
from open360.release.formats.line_index import LineIndex, parse_line_index
from open360.release.formats.line_scan import LineScan
from open360.release.formats.ranges import DataFileError, FileIdentity, FolderRanges, Ranges
from open360.release.order.file_rows import RowSpan
from open360.release.order.json_rows import MAX_LINE_BYTES, lines_between
from open360.release.staging import OutputError
from tests.support.counted_ranges import CountedRanges

ROW_LEN = 7


def lines_of(rows: int, seed: int = 0) -> list[bytes]:
    ids = np.random.default_rng(seed).integers(0, 32_000, (rows, ROW_LEN))
    return [orjson.dumps({"token_ids": row.tolist(), "source": f"s{n % 3}"}) for n, row in enumerate(ids)]


def ids_of(lines: list[bytes]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([orjson.loads(line)["token_ids"] for line in lines], dtype=np.uint32).reshape(-1, ROW_LEN)


def packed(text: bytes, frame_bytes: int) -> bytes:
    packer = zstandard.ZstdCompressor(level=1)
    return b"".join(packer.compress(text[at : at + frame_bytes]) for at in range(0, max(len(text), 1), frame_bytes))


def reader(ranges: Ranges, index_of: Callable[[str], LineIndex | None] = lambda _: None, **how: int) -> JsonReader:
    return JsonReader(ranges, row_len=ROW_LEN, ids="token_ids", source="source", index_of=index_of, **how)


def index_in(ranges: Ranges, path: str, folder: Path) -> LineIndex:
    return index_lines(ranges, path, folder / "index.lines")


LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n \t\n", b"\n   \n\n"])


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_the_lines_however_they_are_stored_and_asked_for(tmp_path: Path, data: st.DataObject) -> None:
    lines = lines_of(data.draw(st.integers(0, 40)))
    text = data.draw(st.sampled_from([b"", b"\n", b" \n\n"]))
    text += b"".join(line + data.draw(LINE_ENDS) for line in lines)
    text = text.rstrip() if data.draw(st.booleans()) else text
    name = data.draw(st.sampled_from(["a.jsonl", "a.jsonl.zst"]))
    content = packed(text, data.draw(st.integers(1, 2_000))) if name.endswith(".zst") else text
    ranges = CountedRanges({name: content})
    index = index_in(ranges, name, tmp_path)
    assert index.rows == len(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "FIRST_BYTES", data.draw(st.integers(1, 3_000)))
        patch.setattr(json_lines, "PIECE_BYTES", data.draw(st.integers(1, 900)))
        patch.setattr(json_lines, "BLOCK_BYTES", data.draw(st.integers(1, 900)))
        for known in (None, index):
            files = reader(ranges, lambda _, known=known: known)  # type: ignore[misc]
            pieces = []
            for _ in range(data.draw(st.integers(0, 5))):
                first = data.draw(st.integers(0, len(lines)))
                pieces.append((first, data.draw(st.integers(first, len(lines)))))
            blocks = list(files.blocks([RowSpan(name, *piece) for piece in pieces]))
            expected = [line for first, end in pieces for line in lines[first:end]]
            found = np.concatenate([np.empty((0, ROW_LEN)), *(block.ids for block in blocks)])
            np.testing.assert_array_equal(found, ids_of(expected))
            labels = [label for block in blocks for label in block.sources or ()]
            assert labels == [orjson.loads(line)["source"] for line in expected]


@given(st.lists(st.sampled_from([b"x", b" ", b"\n", b"\r", b"\t", b"yy", b"\x0b"]), max_size=60), st.data())
@settings(max_examples=300)
def test_a_scan_finds_the_lines_that_reading_finds(parts: list[bytes], data: st.DataObject) -> None:
    text = b"".join(parts)
    expected = list(lines_between("file", lambda a, b: text[a:b], 0, len(text), len(text)))
    scan, lengths, at = LineScan("file"), [], 0
    while at < len(text):
        step = data.draw(st.integers(1, 20))
        lengths += scan.add(text[at : at + step]).tolist()
        at += step
        if data.draw(st.booleans()):  # as after an interruption
            scan = LineScan(
                "file", at=scan.at, first=scan.first, last=scan.last, rows=scan.rows, line=scan.line
            )  # fmt: skip
    lengths += scan.end().tolist()
    assert scan.rows == len(lengths) == len(expected)
    begin = scan.first or 0
    for size, line in zip(lengths, expected, strict=True):
        assert text[begin : begin + size].split(b"\n")[0] == line
        begin += size
    assert not lengths or begin == len(text)


def test_with_an_index_rows_cost_their_bytes_and_one_read(tmp_path: Path) -> None:
    lines = lines_of(20_000)
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines)})
    index = index_in(ranges, "a.jsonl", tmp_path)
    ranges.reads.clear()
    files = reader(ranges, lambda _: index)
    found = files.read([RowSpan("a.jsonl", 15_000, 15_064)])
    np.testing.assert_array_equal(found, ids_of(lines[15_000:15_064]))
    assert len(ranges.reads) == 1
    assert ranges.bytes_read == sum(len(line) + 1 for line in lines[15_000:15_064])
    assert files.reading([RowSpan("a.jsonl", 15_000, 15_064)]).reads == tuple(ranges.reads)
    assert files.rows_of("a.jsonl") == 20_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
def test_without_an_index_reading_stops_soon_after_the_rows_are_complete(name: str) -> None:
    text = b"\n".join(lines_of(40_000))
    content = packed(text, 1 << 16) if name.endswith(".zst") else text
    ranges = CountedRanges({name: content})
    files = reader(ranges, rows=40_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "FIRST_BYTES", 20_000)
        assert files.read([RowSpan(name, 9_990, 10_000)]).shape == (10, ROW_LEN)
    assert ranges.bytes_read < 0.25 * 1.1 * len(content) + 3 * 20_000
    assert files.reading([RowSpan(name, 9_990, 10_000)]).estimated
    with pytest.raises(DataFileError, match="make a line index with 'open360 index'"):
        files.rows_of(name)


def test_with_an_index_a_packed_file_is_read_from_the_frame_of_the_first_row_on(tmp_path: Path) -> None:
    text = b"\n".join(lines_of(40_000))
    ranges = CountedRanges({"a.jsonl.zst": packed(text, 1 << 16)})
    index = index_in(ranges, "a.jsonl.zst", tmp_path)
    ranges.reads.clear()
    reader(ranges, lambda _: index).read([RowSpan("a.jsonl.zst", 30_000, 30_010)])
    assert ranges.bytes_read < 100_000 < len(ranges.files["a.jsonl.zst"]) / 5


def test_rows_out_of_order_are_given_from_one_pass() -> None:
    lines = lines_of(5_000)
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines)})
    wanted = [RowSpan("a.jsonl", first, first + 3) for first in (4_000, 7, 2_500, 8, 4_000)]
    found = reader(ranges).read(wanted)
    expected = [line for rows in wanted for line in lines[rows.first_row : rows.end_row]]
    np.testing.assert_array_equal(found, ids_of(expected))
    assert ranges.bytes_read <= len(ranges.files["a.jsonl"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"token_ids": [1, 2, 3]}', "row 2: expected 7 ids, found 3 ids"),
        (b'{"token_ids": [1, 2, 3, 4, 5, 6, 7, 8]}', "found 8 ids"),
        (b'{"token_ids": [1, 2, 3, 4, 5, 6, -7]}', "that are no ids"),
        (b'{"token_ids": [1, 2, 3, 4, 5, 6, 7.0]}', "without whole numbers"),
        (b'{"token_ids": [1, 2, 3, 4, 5, 6, true]}', "without whole numbers"),
        (b'{"tokens": [1]}', "without whole numbers"),
        (b"<html>", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 2_000, "no JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named(line: bytes, says: str) -> None:
    lines = lines_of(5)
    lines[2] = line
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines)})
    files = reader(ranges)
    assert files.read([RowSpan("a.jsonl", 0, 2), RowSpan("a.jsonl", 3, 5)][:1]).shape == (2, ROW_LEN)
    with pytest.raises(DataFileError, match=says) as caught:
        files.read([RowSpan("a.jsonl", 1, 4)])
    assert "a.jsonl, row 2" in str(caught.value)


def test_a_file_with_fewer_rows_than_asked_for_is_found_out(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.jsonl.zst"):
        text = b"\n".join(lines_of(5))
        ranges = CountedRanges({name: packed(text, 99) if name.endswith(".zst") else text})
        with pytest.raises(DataFileError, match=r"expected rows 3 to 6, found 5 rows"):
            reader(ranges).read([RowSpan(name, 3, 6)])
        index = index_in(ranges, name, tmp_path)
        with pytest.raises(DataFileError, match=r"expected rows 3 to 6, found 5 rows"):
            reader(ranges, lambda _, index=index: index).read([RowSpan(name, 3, 6)])  # type: ignore[misc]


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path) -> None:
    ranges = CountedRanges({"a.jsonl": b'{"token_ids": [' + b"1," * (MAX_LINE_BYTES // 2 + 99)})
    with pytest.raises(DataFileError, match=f"at most {MAX_LINE_BYTES} bytes"):
        reader(ranges).read([RowSpan("a.jsonl", 0, 1)])
    with pytest.raises(DataFileError, match=f"at most {MAX_LINE_BYTES} bytes"):
        index_in(ranges, "a.jsonl", tmp_path)


def test_an_index_of_another_file_is_not_used(tmp_path: Path) -> None:
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines_of(50))})
    index = index_in(ranges, "a.jsonl", tmp_path)
    for identity in (
        dataclasses.replace(index.identity, bytes=index.identity.bytes + 1),
        dataclasses.replace(index.identity, sha256="0" * 64),
    ):
        ranges.identity = lambda _, identity=identity: identity  # type: ignore[method-assign, misc]
        files = reader(ranges, lambda _: index)
        with pytest.raises(DataFileError, match="by its line index"):
            files.read([RowSpan("a.jsonl", 0, 1)])


def test_a_file_that_changed_under_its_index_gives_no_wrong_rows(tmp_path: Path) -> None:
    lines = lines_of(50)
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines)})
    index = index_in(ranges, "a.jsonl", tmp_path)
    text = bytearray(ranges.files["a.jsonl"])
    text[index.place(10) - 1] = ord(" ")  # rows 9 and 10 are now one line
    ranges.files["a.jsonl"] = bytes(text)
    files = reader(ranges, lambda _: index)
    assert files.read([RowSpan("a.jsonl", 20, 30)]).shape == (10, ROW_LEN)
    with pytest.raises(DataFileError):
        files.read([RowSpan("a.jsonl", 5, 15)])
    with pytest.raises(DataFileError):
        verify_line_index(ranges, "a.jsonl", index)


@given(st.integers(0, 9_000), st.sampled_from([None, 1, 777]), st.integers(0, 99))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_index_is_what_was_written(tmp_path: Path, rows: int, frame: int | None, seed: int) -> None:
    text = b"\n" * (seed % 3) + b"\n".join(lines_of(min(rows, 300), seed)) + b"\nx" * max(rows - 300, 0)
    name = "a.jsonl" if frame is None else "a.jsonl.zst"
    ranges = CountedRanges({name: text if frame is None else packed(text[:5_000], frame)})
    made = index_in(ranges, name, tmp_path)
    data = (tmp_path / "index.lines").read_bytes()
    read = parse_line_index("index", data)
    assert read.to_bytes() == made.to_bytes() == data
    np.testing.assert_array_equal(read.lengths, made.lengths)
    places = read.begin + np.concatenate([[0], np.cumsum(read.lengths, dtype=np.int64)])
    np.testing.assert_array_equal(read.places(0, read.rows), places)
    for row in {0, read.rows // 2, max(read.rows - 1, 0), read.rows}:
        assert read.place(row) == places[row]
    verify_line_index(ranges, name, read)


@given(st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_index_is_found_out(tmp_path: Path, data: st.DataObject) -> None:
    ranges = CountedRanges({"a.jsonl.zst": packed(b"\n".join(lines_of(30)), 500)})
    index_in(ranges, "a.jsonl.zst", tmp_path)
    good = (tmp_path / "index.lines").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "add"]))
    bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] if change == "flip" else good[:at]
    with pytest.raises(DataFileError):
        parse_line_index("index", good + b"x" if change == "add" else bad)


def test_an_index_of_a_few_bytes_cannot_claim_gigabytes(tmp_path: Path) -> None:
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines_of(30))})
    index_in(ranges, "a.jsonl", tmp_path)
    body = (tmp_path / "index.lines").read_bytes()[:-32]
    for old, new in ((b'"rows": 30', b'"rows": 99'), (b'"begin": 0', b'"begin": 7'), (b'"rows": 30', b'"rows": 1e')):
        text = body.replace(old, new)
        assert text != body
        with pytest.raises(DataFileError):
            parse_line_index("index", text + hashlib.sha256(text).digest())


def test_an_index_is_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.normal(12_000, 300, 200_000).astype(np.uint32)
    total = int(lengths.sum(dtype=np.int64))
    identity = FileIdentity(bytes=total)
    index = LineIndex(
        file="a", identity=identity, was_hashed=False, begin=0, lengths=lengths, frames=None, unpacked=total
    )
    assert len(index.to_bytes()) < 2 * 200_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst"])
@pytest.mark.parametrize("source", ["memory", "folder"])
def test_an_interrupted_index_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> None:
    text = b"\n".join(lines_of(3_000))
    content = packed(text, 1 << 12) if name.endswith(".zst") else text
    whole = index_in(CountedRanges({name: content}), name, tmp_path / "whole")
    monkeypatch.setattr(indexing, "MARK_BYTES", 5_000)
    monkeypatch.setattr(indexing, "PIECE_BYTES", 1_000)
    (tmp_path / name).write_bytes(content)
    out = tmp_path / "index.lines"
    stop = [len(content) // 2]

    def before(span: object) -> None:
        if span.end > stop[0]:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    monkeypatch.setattr("open360.release.formats.fetching.GROUP_BYTES", 4_000)
    monkeypatch.setattr("open360.release.formats.fetching.HELD_BYTES", 4_000)
    with pytest.raises(KeyboardInterrupt):
        index_lines(_source(source, tmp_path, name, content, before), name, out)
    assert not out.exists()
    stop[0] = 1 << 40
    ranges = _source(source, tmp_path, name, content, before)
    made = index_lines(ranges, name, out)
    np.testing.assert_array_equal(made.lengths, whole.lengths)
    assert (made.begin, made.frames, made.unpacked) == (whole.begin, whole.frames, whole.unpacked)
    if source == "memory":
        assert isinstance(ranges, CountedRanges)
        assert ranges.bytes_read < 0.8 * len(content)
        assert not made.was_hashed  # what was read before is not read again for a digest
    else:
        assert made.identity.sha256 == whole.identity.sha256
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def _source(kind: str, folder: Path, name: str, content: bytes, before: Callable[[object], None]) -> Ranges:
    if kind == "memory":
        return CountedRanges({name: content}, before=before)

    class Watched(FolderRanges):
        def read(self, path: str, begin: int, end: int) -> bytes:
            from open360.release.order.spans import Span

            before(Span(path, begin, end))
            return super().read(path, begin, end)

    return Watched(folder)


def test_what_another_file_has_left_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "MARK_BYTES", 5_000)
    text = b"\n".join(lines_of(3_000))
    (tmp_path / "a.jsonl").write_bytes(text)
    folder = tmp_path / ".index.lines.partial"
    folder.mkdir()
    for junk in (b"{}", b"[", b'{"path": "a.jsonl", "identity": 5}'):
        (folder / "state.json").write_bytes(junk)
        (folder / "lengths").write_bytes(b"1234")
        made = index_lines(FolderRanges(tmp_path), "a.jsonl", tmp_path / "index.lines")
        assert made.rows == 3_000
        folder.mkdir()


def test_two_processes_do_not_make_the_same_index(tmp_path: Path) -> None:
    with indexing._work_folder(tmp_path / "index.lines"), pytest.raises(OutputError, match="another process"):
        index_in(CountedRanges({"a.jsonl": b"x"}), "a.jsonl", tmp_path)


def test_a_file_whose_digest_is_not_the_stated_one_gets_no_index(tmp_path: Path) -> None:
    ranges = CountedRanges({"a.jsonl": b"\n".join(lines_of(5))})
    ranges.identity = lambda _: FileIdentity(bytes=len(ranges.files["a.jsonl"]), sha256="1" * 64)  # type: ignore[method-assign, misc]
    with pytest.raises(DataFileError, match="expected sha256 1111"):
        index_in(ranges, "a.jsonl", tmp_path)
    assert not (tmp_path / "index.lines").exists()
