"""Megatron's files: compared with what Megatron, GPT-NeoX and datatrove themselves answered (tests/golden/peers)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.formats.document_ends import DocumentPart, parse_document_ends, read_document_ends
from open360.release.formats.far_array import FarArray
from open360.release.formats.megatron import MAGIC, MegatronIndex, MegatronReader, SampleReader, parse_index_header
from open360.release.formats.opening import open_rows
from open360.release.formats.ranges import DataFileError
from open360.release.formats.rows import StreamReader
from open360.release.order.file_rows import RowSpan
from open360.release.order.sample_maps import SampleMaps
from open360.release.order.spans import OrderError, StoredFile
from open360.schema.corpus import Corpus, RowFormat
from tests.support.counted_ranges import CountedRanges

PEERS = Path(__file__).parents[2] / "golden" / "peers"
CODES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}


def golden(name: str) -> Any:
    return json.loads((PEERS / f"{name}.json").read_bytes())


def index_of(sizes: list[int], code: int = 8, itemsize: int = 2) -> bytes:
    pointers = np.cumsum([0, *sizes], dtype="<i8")[:-1] * itemsize
    head = MAGIC + (1).to_bytes(8, "little") + bytes([code]) + len(sizes).to_bytes(8, "little") + bytes(8)
    return head + np.array(sizes, "<i4").tobytes() + pointers.astype("<i8").tobytes()


def reader_of(ranges: CountedRanges, row_len: int) -> MegatronReader:
    files = [StoredFile(name, len(data)) for name, data in sorted(ranges.files.items()) if name.endswith(".bin")]
    return MegatronReader(ranges, files, MegatronIndex(ranges, "ids.idx"), row_len=row_len)


@pytest.mark.parametrize("dtype", sorted(CODES))
def test_the_documents_of_megatron_are_read_by_its_index(dtype: str) -> None:
    found = golden("megatron_core")["files"][dtype]
    stored = np.concatenate([np.array(document, dtype=dtype) for document in found["documents"]]).tobytes()
    if found["bin"] is not None:
        assert stored.hex() == found["bin"]
    ranges = CountedRanges({"ids.bin": stored, "ids.idx": bytes.fromhex(found["idx"])})
    reader = reader_of(ranges, 5)
    assert reader.rows_of("") == len(found["documents"])
    read = [document.tolist() for document in reader.sequences(0, len(found["documents"]))]
    assert read == found["documents"]
    assert reader.index.header.dtype == np.dtype(dtype)


@pytest.mark.parametrize("peer", ["megatron_core", "gpt_neox"])
def test_samples_of_the_peers_are_read_over_the_border_of_shards(peer: str) -> None:
    found = golden(peer)["samples"] if peer == "megatron_core" else golden(peer)
    if peer == "megatron_core":
        stored, index = bytes.fromhex(found["bin"]), bytes.fromhex(found["idx"])
    else:
        stored = np.concatenate([np.array(document, "<u2") for document in found["documents"]]).tobytes()
        index = index_of([len(document) for document in found["documents"]])
    ranges = CountedRanges({"0.bin": stored[:77], "1.bin": stored[77:], "ids.idx": index})
    files = [StoredFile("0.bin", 77), StoredFile("1.bin", len(stored) - 77)]
    documents = MegatronIndex(ranges, "ids.idx").documents()
    for case in found["cases"]:
        maps = SampleMaps(
            peer, doc=np.array(case["doc"]), sample=np.array(case["sample"]), documents=documents,
            row_len=found["seq_len"] + 1,
        )  # fmt: skip
        stream = StreamReader(ranges, files, row_len=maps.row_len, dtype=np.dtype("<u2"))
        reader = SampleReader(stream, maps)
        order = case["shuffle"][: len(case["rows"])]
        read = reader.read([RowSpan("maps", sample, sample + 1) for sample in order])
        assert read.tolist() == case["rows"]
        assert reader.reading([RowSpan("maps", 0, reader.rows_of(""))]).reads


def test_windows_of_datatrove_are_the_rows_of_its_files() -> None:
    for case in golden("datatrove")["cases"]:
        dtype = {2: "uint16", 4: "uint32"}[case["id_bytes"]]
        files = {name: np.array(ids, dtype=dtype).tobytes() for name, ids in case["files"].items()}
        row = RowFormat(row_len=case["seq_len"] + 1, seq_len=case["seq_len"], dtype=dtype, format="ds")  # type: ignore[arg-type]
        reader = open_rows(Corpus(name="ds", row=row), list(files), CountedRanges(files))
        read = reader.read([RowSpan(name, 0, reader.rows_of(name)) for name in files])
        assert read.tolist() == case["windows"]


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_rows_by_an_index_are_those_of_the_stream(data: st.DataObject) -> None:
    rows, row_len = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 6))
    ids = np.random.default_rng(rows).integers(0, 1 << 16, (rows, row_len)).astype("<u2")
    raw, cut = ids.tobytes(), data.draw(st.integers(0, 2 * rows * row_len))
    ranges = CountedRanges({"0.bin": raw[:cut], "1.bin": raw[cut:], "ids.idx": index_of([row_len] * rows)})
    first = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(first, rows))
    found = reader_of(ranges, row_len).read([RowSpan("", first, end), RowSpan("", 0, 1)])
    np.testing.assert_array_equal(found, np.concatenate([ids[first:end], ids[:1]]))


def test_only_the_parts_of_an_index_that_are_needed_are_read() -> None:
    rows = 100_000
    ranges = CountedRanges({"0.bin": bytes(10 * rows), "ids.idx": index_of([5] * rows)})
    reader_of(ranges, 5).read([RowSpan("", 500, 600)])
    assert ranges.bytes_read == 34 + 100 * (4 + 8) + 1_000


def test_documents_are_not_taken_for_rows() -> None:
    ranges = CountedRanges({"0.bin": bytes(60), "ids.idx": index_of([5, 7, 5])})
    with pytest.raises(DataFileError, match=r"row 1: expected 5 ids, found 7 ids; its sequences are documents"):
        reader_of(ranges, 5).read([RowSpan("", 0, 3)])


def test_an_index_beyond_the_data_is_found_out() -> None:
    ranges = CountedRanges({"0.bin": bytes(28), "ids.idx": index_of([5, 5, 5])})
    reader = reader_of(ranges, 5)
    assert reader.read([RowSpan("", 0, 2)]).shape == (2, 5)
    with pytest.raises(DataFileError, match="sequence 2: expected a range of the 28 bytes of data, found bytes 10 at"):
        reader.read([RowSpan("", 0, 3)])


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(MAGIC.__add__)), st.integers(0, 1 << 40))
def test_whatever_a_header_says_it_is_read_or_refused(head: bytes, size: int) -> None:
    try:
        header = parse_index_header("ids.idx", head, size)
    except DataFileError:
        return
    assert 34 + 12 * header.sequences + 8 * header.documents == size


def test_a_header_that_claims_more_than_there_is_costs_nothing() -> None:
    huge = MAGIC + (1).to_bytes(8, "little") + b"\x08" + b"\xff" * 16
    ranges = CountedRanges({"ids.idx": huge})
    with pytest.raises(DataFileError, match="as its header says, found 34 bytes"):
        MegatronIndex(ranges, "ids.idx")
    assert ranges.bytes_read == 34


@given(st.integers(1, 40), st.lists(st.integers(-3, 45), max_size=9), st.integers(0, 45), st.integers(0, 45))
def test_a_far_array_answers_as_numpy_does(size: int, places: list[int], first: int, end: int) -> None:
    pairs = np.random.default_rng(size).integers(-99, 99, (size, 2)).astype("<i8")
    ranges = CountedRanges({"array": b"head" + pairs.tobytes()})
    array = FarArray(ranges, "array", dtype=np.dtype("<i8"), begin=4, shape=pairs.shape)
    assert len(array) == size
    np.testing.assert_array_equal(array[first:end], pairs[first:end])
    if all(0 <= place < size for place in places):
        np.testing.assert_array_equal(array[np.array(places, dtype=np.int64)], pairs[np.array(places, dtype=np.int64)])
    else:
        with pytest.raises(DataFileError, match=f"expected an entry of {size}"):
            array[np.array(places, dtype=np.int64)]


def test_far_arrays_are_real_numpy_files_or_raw_ones(tmp_path: Path) -> None:
    numbers = np.arange(30, dtype="<u4")
    np.save(tmp_path / "real.npy", numbers)
    ranges = CountedRanges({"real": (tmp_path / "real.npy").read_bytes(), "raw": numbers.tobytes()})
    for name in ("real", "raw"):
        np.testing.assert_array_equal(FarArray.of_file(ranges, name, np.dtype("<u4"))[3:9], numbers[3:9])
    with pytest.raises(OrderError, match="NumPy header"):
        FarArray.of_file(ranges, "raw")


@given(st.lists(st.integers(0, 6), max_size=12), st.data())
def test_the_documents_of_a_row_hold_its_ids(lengths: list[int], data: st.DataObject) -> None:
    ends = np.cumsum(lengths, dtype="<u8")
    ids = sum(lengths) + data.draw(st.integers(0, 3))
    first = data.draw(st.integers(0, ids))
    end = data.draw(st.integers(first, ids))
    owner = [(document, at) for document, size in enumerate(lengths) for at in range(size)]
    parts = parse_document_ends("a.ds.index", ends.tobytes(), ids).parts(first, end)
    held = [(part.document, part.offset + at) for part in parts for at in range(part.length)]
    assert held == owner[first:end]
    assert all(part.length > 0 for part in parts)


def test_an_index_of_document_ends_that_cannot_be_right_is_refused() -> None:
    for data in (b"1234567", np.array([5, 3], "<u8").tobytes(), np.array([99], "<u8").tobytes(), b"\xff" * 8):
        with pytest.raises(DataFileError):
            parse_document_ends("a.ds.index", data, 20)
    ranges = CountedRanges({"a.ds.index": np.array([5, 9], "<u8").tobytes()})
    assert read_document_ends(ranges, "a.ds", 20).parts(4, 7) == [DocumentPart(0, 0, 1, 4), DocumentPart(1, 1, 2, 0)]
