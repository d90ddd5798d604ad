"""Rows of a fixed size: what NumPy finds in the same bytes is what is read, whatever the file format."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from open360.release.formats.opening import NoReaderError, open_rows
from open360.release.formats.ranges import DataFileError, FolderRanges, MissingFileError, UnsafePathError
from open360.release.formats.rows import StreamReader
from open360.release.formats.shards import LITPKDS_HEADER_BYTES, ShardReader, parse_litpkds_header
from open360.release.formats.token_ids import CODES, dtype_of_code, to_ids
from open360.release.order.file_rows import RowSpan
from open360.release.order.spans import OrderError, StoredFile
from open360.schema.corpus import Corpus, FileSet, RowFormat
from tests.support.counted_ranges import CountedRanges

DTYPES = {"uint16": "<u2", "uint32": "<u4", "int32": "<i4"}


def corpus(row_len: int = 5, files: FileSet | None = None, **row: object) -> Corpus:
    row = {"dtype": "uint16", "format": "bin", **row}
    return Corpus(name="ids", row=RowFormat(row_len=row_len, seq_len=row_len, **row), files=files)  # type: ignore[arg-type]


def litpkds(ids: NDArray[np.integer], code: int) -> bytes:
    head = b"LITPKDS" + (1).to_bytes(8, "little") + bytes([code]) + ids.size.to_bytes(8, "little")
    return head + ids.tobytes()


@st.composite
def pieces_of(draw: st.DrawFn, rows: int) -> list[tuple[int, int]]:
    def one() -> tuple[int, int]:
        first = draw(st.integers(0, rows))
        return first, draw(st.integers(first, rows))

    return [one() for _ in range(draw(st.integers(0, 6)))]


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_rows_of_a_stream_are_those_of_the_joined_files(data: st.DataObject) -> None:
    dtype, row_len = data.draw(st.sampled_from(sorted(DTYPES))), data.draw(st.integers(2, 9))
    overlap = data.draw(st.sampled_from([0, 0, 1]))
    ids = np.arange(data.draw(st.integers(row_len, 400))).astype(DTYPES[dtype])
    raw = ids.tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=4)))
    files = {f"{n}.bin": raw[a:b] for n, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(raw)], strict=True))}
    reader = open_rows(corpus(row_len, dtype=dtype, overlap=overlap), list(files), CountedRanges(files))
    stride = row_len - overlap
    expected = np.stack([ids[at : at + row_len] for at in range(0, len(ids) - row_len + 1, stride)])
    assert reader.rows_of("") == len(expected)
    wanted = data.draw(pieces_of(len(expected)))
    found = reader.read([RowSpan("all", *part) for part in wanted])
    assert found.dtype == np.uint32
    np.testing.assert_array_equal(found, np.concatenate([expected[:0], *(expected[a:b] for a, b in wanted)]))


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_rows_of_shards_are_those_of_each_file_without_its_tail(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["bin", "ds", "npy", "real npy", "npy table", "litpkds"]))
    dtype, row_len = data.draw(st.sampled_from(sorted(DTYPES))), data.draw(st.integers(2, 9))
    files, expected = {}, {}
    for number in range(data.draw(st.integers(1, 3))):
        rows = data.draw(st.integers(0, 30))
        tail = 0 if kind == "npy table" else data.draw(st.integers(0, row_len - 1))
        ids = np.random.default_rng(number).integers(0, 60_000, rows * row_len + tail).astype(DTYPES[dtype])
        expected[f"{number}.x"] = ids[: rows * row_len].reshape(rows, row_len)
        content = io.BytesIO()
        if kind in ("real npy", "npy table"):
            np.save(content, ids.reshape(rows, row_len) if kind == "npy table" else ids)
        elif kind == "litpkds":
            content.write(litpkds(ids, {"uint16": 8, "int32": 4, "uint32": 4}[dtype]))
        else:
            content.write(ids.tobytes())
        files[f"{number}.x"] = content.getvalue()
    form = kind.split()[-1] if kind != "npy table" else "npy"
    reader = open_rows(corpus(row_len, dtype=dtype, format=form), list(files), CountedRanges(files), layout="files")
    wanted = [(name, *part) for name in files for part in data.draw(pieces_of(reader.rows_of(name)))]
    wanted = data.draw(st.permutations(wanted))
    found = reader.read([RowSpan(*part) for part in wanted])
    empty = np.empty((0, row_len))
    np.testing.assert_array_equal(found, np.concatenate([empty, *(expected[name][a:b] for name, a, b in wanted)]))
    assert [reader.rows_of(name) for name in files] == [len(part) for part in expected.values()]


def test_rows_that_share_ids_are_given_whole() -> None:
    files = {"a": np.arange(22, dtype="<u2").tobytes()}
    reader = open_rows(corpus(5, format="ds", overlap=1), ["a"], CountedRanges(files))
    assert reader.rows_of("a") == 5
    assert reader.read([RowSpan("a", 1, 3), RowSpan("a", 4, 5)]).tolist() == [
        [4, 5, 6, 7, 8], [8, 9, 10, 11, 12], [16, 17, 18, 19, 20]
    ]  # fmt: skip


def test_a_batch_over_the_border_of_two_shards_is_read_from_both_and_nothing_more() -> None:
    ids = np.arange(7_149 * 4).astype("<u2")
    raw = ids.tobytes()
    files = {"0.bin": raw[:30_001], "1.bin": raw[30_001:]}
    ranges = CountedRanges(files)
    reader = open_rows(corpus(4), list(files), ranges)
    found = reader.read([RowSpan("", 3_700, 3_800)])
    np.testing.assert_array_equal(found, ids.reshape(-1, 4)[3_700:3_800])
    assert sorted(ranges.reads) == [("0.bin", 29_600, 30_001), ("1.bin", 0, 399)]
    assert reader.reading([RowSpan("", 3_700, 3_800)]).reads == tuple(sorted(ranges.reads))


def test_one_batch_of_raw_rows_costs_its_bytes_and_one_read_besides_the_head_of_the_first_file() -> None:
    files = {f"{n}.npy": np.arange(64_000, dtype="<u4").tobytes() for n in range(3)}
    ranges = CountedRanges(files)
    reader = open_rows(corpus(8, format="npy", dtype="uint32"), list(files), ranges)
    reader.read([RowSpan("1.npy", 40, 80)])
    ranges.reads.clear()
    reader.read([RowSpan("2.npy", 40, 80)])
    assert ranges.reads == [("2.npy", 40 * 32, 80 * 32)]


def test_rows_beyond_the_data_are_an_error_and_nothing_is_read() -> None:
    ranges = CountedRanges({"a.ds": bytes(100)})
    reader = open_rows(corpus(5, format="ds"), ["a.ds"], ranges)
    with pytest.raises(DataFileError, match=r"a\.ds: expected rows 8 to 11, found 10 rows"):
        reader.read([RowSpan("a.ds", 8, 11)])
    stream = open_rows(corpus(5), ["a.ds"], ranges)
    with pytest.raises(DataFileError, match="expected rows 10 to 11"):
        stream.read([RowSpan("", 10, 11)])
    assert ranges.reads == []


def test_a_shard_that_is_shorter_than_declared_is_an_error_before_any_row() -> None:
    declared = FileSet(pattern="{index}.bin", count=3, bytes=40, last_bytes=20)
    files = {"0.bin": bytes(40), "1.bin": bytes(36), "2.bin": bytes(20)}
    with pytest.raises(DataFileError, match=r"1\.bin: expected 40 bytes as declared, found 36 bytes"):
        open_rows(corpus(5, files=declared), list(files), CountedRanges(files))
    reader = open_rows(corpus(5, files=declared, format="ds"), list(files), CountedRanges(files))
    assert reader.rows_of("0.bin") == 4
    with pytest.raises(DataFileError, match="expected 40 bytes as declared"):
        reader.read([RowSpan("1.bin", 0, 1)])


def test_files_are_raw_or_real_numpy_files_but_not_both() -> None:
    real, raw = io.BytesIO(), np.arange(40, dtype="<u2").tobytes()
    np.save(real, np.arange(40, dtype="<u2"))
    for files in ({"a": real.getvalue(), "b": raw}, {"a": raw, "b": real.getvalue()}):
        reader = open_rows(corpus(5, format="npy"), list(files), CountedRanges(files))
        reader.read([RowSpan("a", 0, 2)])
        with pytest.raises(DataFileError):
            reader.read([RowSpan("b", 0, 2)])


def test_a_numpy_table_of_other_columns_or_of_objects_is_refused() -> None:
    for array in (np.zeros((3, 4), "<u2"), np.zeros(5, "<f4"), np.zeros(5, ">u2"), np.array([{}, {}], dtype=object)):
        content = io.BytesIO()
        np.save(content, array, allow_pickle=True)
        reader = open_rows(corpus(5, format="npy"), ["a"], CountedRanges({"a": content.getvalue()}))
        with pytest.raises((DataFileError, OrderError)):
            reader.read([RowSpan("a", 0, 1)])


def test_ids_below_zero_or_above_32_bits_are_no_ids() -> None:
    for values in (np.array([3, -1], "<i4"), np.array([1 << 32], "<i8"), np.array([-5], "<i8")):
        with pytest.raises(DataFileError, match="expected ids of 0 to 4294967295"):
            to_ids("file", values.tobytes(), values.dtype)
    assert to_ids("file", np.array([(1 << 32) - 1], "<i8").tobytes(), np.dtype("<i8")).tolist() == [(1 << 32) - 1]


@pytest.mark.parametrize("code", [6, 7])
def test_the_codes_of_floating_point_types_are_refused_with_the_reason(code: int) -> None:
    with pytest.raises(DataFileError, match="float32 and float64 in GPT-NeoX, the other way round in Megatron-core"):
        dtype_of_code("file", code)


@given(st.integers(0, 255))
def test_every_other_code_is_a_known_type_or_an_error(code: int) -> None:
    if code in CODES:
        assert dtype_of_code("file", code).kind in "iu"
    else:
        with pytest.raises(DataFileError):
            dtype_of_code("file", code)


@given(
    st.one_of(st.binary(max_size=60), st.binary(max_size=20).map(lambda rest: b"LITPKDS" + rest)), st.integers(0, 99)
)
def test_whatever_a_packed_header_says_it_is_read_or_refused(head: bytes, size: int) -> None:
    try:
        area = parse_litpkds_header("file", head, size)
    except DataFileError:
        return
    assert (area.begin, area.end) == (LITPKDS_HEADER_BYTES, size)


def test_a_packed_header_of_another_version_size_or_magic_is_refused() -> None:
    good = litpkds(np.arange(4, dtype="<u2"), 8)
    assert parse_litpkds_header("file", good[:24], len(good)).ids == 4
    for at, byte in ((0, 0), (7, 2), (15, 6), (16, 5)):
        with pytest.raises(DataFileError):
            parse_litpkds_header("file", good[:at] + bytes([byte]) + good[at + 1 :], len(good))


def test_a_format_that_is_not_read_and_a_spec_without_rows_say_so() -> None:
    with pytest.raises(NoReaderError, match="'h5' are not read"):
        open_rows(corpus(format="h5", dtype="int32"), [], CountedRanges({}))
    with pytest.raises(NoReaderError, match="does not say how rows are stored"):
        open_rows(Corpus(name="ids"), [], CountedRanges({}))
    with pytest.raises(NoReaderError, match="'json'"):
        open_rows(corpus(dtype="json"), [], CountedRanges({}))


def test_files_of_a_folder_are_read_and_nothing_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_bytes(bytes(20))
    (tmp_path / "data" / "a.bin").write_bytes(bytes(range(20)))
    (tmp_path / "data" / "link.bin").symlink_to("a.bin")
    ranges = FolderRanges(tmp_path / "data")
    assert ranges.read("a.bin", 3, 7) == ranges.read("link.bin", 3, 7) == bytes(range(3, 7))
    assert ranges.identity("a.bin").bytes == 20
    with pytest.raises(UnsafePathError):
        ranges.read("../secret", 0, 5)
    with pytest.raises(MissingFileError):
        ranges.read("none.bin", 0, 5)
    with pytest.raises(DataFileError, match="expected bytes 15 to 25, found a file of 20 bytes"):
        ranges.read("a.bin", 15, 25)


def test_blocks_are_small_however_many_rows_are_asked_for() -> None:
    files = {"a": bytes(9 << 20)}
    reader = StreamReader(CountedRanges(files), [StoredFile("a", 9 << 20)], row_len=1024, dtype=np.dtype("<u2"))
    blocks = [len(block.ids) for block in reader.blocks([RowSpan("", 0, reader.rows_of(""))])]
    assert sum(blocks) == 4608
    assert max(blocks) == 4_200_000 // 2048


def test_a_reader_of_shards_asks_for_no_size_that_it_was_given() -> None:
    class Sizeless(CountedRanges):
        def identity(self, path: str):  # type: ignore[no-untyped-def]
            raise AssertionError(path)

    ranges = Sizeless({"a": bytes(100)})
    reader = open_rows(corpus(5, format="ds"), ["a"], ranges, sizes={"a": 100})
    assert isinstance(reader, ShardReader)
    assert reader.read([RowSpan("a", 9, 10)]).shape == (1, 5)
