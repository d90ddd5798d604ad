"""Digests of rows and tensors, and the reader of tensor headers under hostile input."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from open360.schema.digests import (
    ITEM_BYTES,
    MAX_HEADER_BYTES,
    TensorFileError,
    digest_of_tensor_file,
    parse_tensor_header,
    rows_digest,
    tensor_header_bytes,
    tensors_digest,
)

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _file(header: object, payload: bytes = b"", *, length: int | None = None) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + payload


def _parse(data: bytes, size: int | None = None) -> list[Any]:
    return parse_tensor_header("x.safetensors", data, len(data) if size is None else size)


def _entry(**changes: Any) -> bytes:
    return _file({"a": {**F32, **changes}}, b"\x00" * 8)


def test_a_header_of_the_stock_writer_is_read_as_it_was_meant() -> None:
    data = save({"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(3, dtype=np.uint8)}, {"format": "pt"})
    spans = _parse(data)
    assert [(span.name, span.dtype, span.shape) for span in spans] == [("a", "U8", (3,)), ("b", "F32", (2, 3))]
    b = spans[1]
    assert np.frombuffer(data[b.begin : b.end], dtype="<f4").tolist() == [0, 1, 2, 3, 4, 5]


tensors = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(lambda n: n != "__metadata__"),
    st.integers(0, 4).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n)),
    max_size=4,
)


def _plain_file(parts: dict[str, bytes], order: list[str], metadata: dict[str, str] | None) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    at = 0
    for name in order:
        header[name] = {"dtype": "F32", "shape": [len(parts[name]) // 4], "data_offsets": [at, at + len(parts[name])]}
        at += len(parts[name])
    return _file(header, b"".join(parts[name] for name in order))


@given(tensors, st.data())
def test_the_digest_is_that_of_the_tensors_whatever_their_order_and_metadata(
    parts: dict[str, bytes], data: st.DataObject
) -> None:
    one = _plain_file(parts, sorted(parts), None)
    order = data.draw(st.permutations(sorted(parts)))
    other = _plain_file(parts, order, {"format": "pt", "note": "x"})
    assert digest_of_tensor_file("a", memoryview(one)) == digest_of_tensor_file("b", memoryview(other))
    expected = hashlib.sha256()
    for name in sorted(parts):
        line = json.dumps([name, "F32", [len(parts[name]) // 4], len(parts[name])], ensure_ascii=False)
        expected.update(line.encode() + b"\n" + parts[name])
    assert digest_of_tensor_file("a", memoryview(one)) == expected.hexdigest()


@given(tensors.filter(lambda parts: any(parts.values())), st.data())
def test_any_changed_byte_name_or_shape_changes_the_digest(parts: dict[str, bytes], data: st.DataObject) -> None:
    before = digest_of_tensor_file("a", memoryview(_plain_file(parts, sorted(parts), None)))
    name = data.draw(st.sampled_from([key for key, payload in parts.items() if payload]))
    flipped = bytearray(parts[name])
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = {**parts, name: bytes(flipped)}
    assert digest_of_tensor_file("a", memoryview(_plain_file(changed, sorted(changed), None))) != before
    renamed = {(key + "'" if key == name else key): payload for key, payload in parts.items()}
    if len(renamed) == len(parts):
        assert digest_of_tensor_file("a", memoryview(_plain_file(renamed, sorted(renamed), None))) != before


def test_moving_bytes_from_one_tensor_to_the_next_changes_the_digest() -> None:
    one = _plain_file({"a": b"1234", "b": b""}, ["a", "b"], None)
    two = _plain_file({"a": b"", "b": b"1234"}, ["a", "b"], None)
    assert digest_of_tensor_file("x", memoryview(one)) != digest_of_tensor_file("x", memoryview(two))


def test_pieces_of_any_size_give_one_digest_and_names_must_come_in_order() -> None:
    data = _plain_file({"a": b"12345678", "b": b"abcd"}, ["a", "b"], None)
    spans = _parse(data)
    whole = [(span, [data[span.begin : span.end]]) for span in spans]
    bytewise = [(span, [data[i : i + 1] for i in range(span.begin, span.end)]) for span in spans]
    assert tensors_digest(whole) == tensors_digest(bytewise)
    with pytest.raises(ValueError, match="by name"):
        tensors_digest(reversed(whole))
    with pytest.raises(ValueError, match="by name"):
        tensors_digest([whole[0], whole[0]])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        _file(b""),
        _file(b"{"),
        _file(b"[]"),
        _file(b"null"),
        _file(b"\xff\xfe"),
        _file(b'{"a":' * 20000),
        _file(b"{}", length=1 << 63),
        _file(b"{}", length=MAX_HEADER_BYTES + 1),
        _file(b"{}", length=3),
        _file(b"{}", b"\x00"),
        _file(b'{"a":' + json.dumps(F32).encode() + b',"a":' + json.dumps(F32).encode() + b"}", b"00000000"),
        _file({"a": None}),
        _file({"a": {}}),
        _file({"a": {**F32, "extra": 1}}, b"\x00" * 8),
        _entry(dtype="F31"),
        _entry(dtype=None),
        _entry(dtype=["F32"]),
        _entry(shape=None),
        _entry(shape=[-2]),
        _entry(shape=["2"]),
        _entry(shape=[2.0]),
        _entry(shape=[True, 2]),
        _entry(shape=[1 << 62, 1 << 62]),
        _entry(shape=[0]),
        _entry(data_offsets=[0]),
        _entry(data_offsets=[0, 8, 8]),
        _entry(data_offsets=[8, 0]),
        _entry(data_offsets=[1, 9]),
        _entry(data_offsets=[-8, 0]),
        _entry(data_offsets=[1 << 62, (1 << 62) + 8]),
        _entry(data_offsets=None),
        _entry(data_offsets="08"),
        _file({"a": F32}, b"\x00" * 7),
        _file({"a": F32}, b"\x00" * 9),
        _file({"a": F32, "b": F32}, b"\x00" * 8),
        _file({"a": F32, "b": {**F32, "data_offsets": [9, 17]}}, b"\x00" * 17),
        _file(b'{"a": ' + b"9" * 5000 + b"}"),
    ],
)  # fmt: skip
def test_a_malformed_header_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(TensorFileError, match=r"^x\.safetensors: not a valid safetensors file: "):
        _parse(data)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_tensor_file_error(data: bytes) -> None:
    with contextlib.suppress(TensorFileError):
        _parse(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(sorted(ITEM_BYTES)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*ITEM_BYTES, "X"]) | json_values,
        "shape": st.lists(st.integers(-1, 1 << 64), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 1 << 64), min_size=2, max_size=2) | json_values,
    }
)


@given(
    st.dictionaries(st.text(max_size=5) | st.just("__metadata__"), entries | json_values, max_size=3),
    st.binary(max_size=40),
)
def test_no_header_raises_anything_but_a_tensor_file_error(header: dict[str, Any], payload: bytes) -> None:
    data = _file(header, payload)
    try:
        spans = _parse(data)
    except TensorFileError:
        return
    assert sum(span.end - span.begin for span in spans) == len(payload)
    assert all(8 <= span.begin <= span.end <= len(data) for span in spans)


@given(tensors, st.data())
def test_a_cut_or_grown_file_is_never_taken_for_whole(parts: dict[str, bytes], data: st.DataObject) -> None:
    whole = _plain_file(parts, sorted(parts), None)
    size = data.draw(st.integers(0, len(whole) + 9).filter(lambda n: n != len(whole)))
    with pytest.raises(TensorFileError):
        _parse(whole, size)


def test_the_bytes_to_fetch_are_known_from_the_first_eight() -> None:
    data = _file({"a": F32}, b"\x00" * 8)
    assert tensor_header_bytes("x", data[:8], len(data)) == len(data) - 8
    with pytest.raises(TensorFileError, match="claims"):
        tensor_header_bytes("x", data[:8], 20)


def test_a_header_that_was_read_only_in_part_is_refused(tmp_path: Path) -> None:
    data = _file({"a": F32}, b"\x00" * 8)
    with pytest.raises(TensorFileError):
        _parse(data[:20], len(data))


@given(st.lists(st.integers(0, 65535), max_size=40), st.data())
def test_the_rows_digest_is_that_of_the_ids_however_they_are_stored(ids: list[int], data: st.DataObject) -> None:
    wide = np.array(ids, dtype="<u4").tobytes()
    narrow = np.array(ids, dtype=np.uint16).astype("<u4").tobytes()
    cut = data.draw(st.integers(0, len(wide)))
    assert rows_digest([wide]) == rows_digest([narrow[:cut], narrow[cut:]]) == hashlib.sha256(wide).hexdigest()


def test_a_tensor_name_that_is_no_text_is_refused() -> None:
    header = b'{"a\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    with pytest.raises(TensorFileError, match="not Unicode"):
        parse_tensor_header("weights", data, len(data))
