"""Readers of foreign formats: right on what the tools write, an error of ours on everything else."""

from __future__ import annotations

import io
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.order.file_list import parse_file_list
from open360.release.order.json_rows import JsonRow, lines_between, parse_row
from open360.release.order.npy_header import has_npy_header, parse_npy_header
from open360.release.order.permutation import PermutationCheck
from open360.release.order.shuffles import pcg64_shuffle
from open360.release.order.spans import OrderError


def _saved(array: object, **how: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **how)  # type: ignore[arg-type]
    return file.getvalue()


@given(
    st.sampled_from(["<u2", "<u4", "<i4", "<i8", "|u1"]),
    st.lists(st.integers(0, 5), min_size=0, max_size=3),
)
def test_the_header_of_a_numpy_file_says_where_its_numbers_are(dtype: str, shape: list[int]) -> None:
    array = np.arange(int(np.prod(shape, dtype=int)), dtype=dtype).reshape(shape)
    data = _saved(array)
    assert has_npy_header(data)
    layout = parse_npy_header("x.npy", data, len(data))
    assert layout.shape == array.shape
    assert np.frombuffer(data[layout.begin :], layout.dtype).tolist() == array.reshape(-1).tolist()


def test_raw_numbers_have_no_header() -> None:
    raw = np.arange(50, dtype="<u4").tobytes()
    assert not has_npy_header(raw)
    with pytest.raises(OrderError):
        parse_npy_header("global_indices.npy", raw, len(raw))


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("it was unpickled",))


def test_an_array_of_objects_is_refused_and_never_unpickled() -> None:
    data = _saved(np.array([_Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(OrderError):
        parse_npy_header("x.npy", data, len(data))
    with pytest.raises(OrderError):
        parse_npy_header("x.npy", pickle.dumps(_Bomb()), 100)


@pytest.mark.parametrize("dtype", [">u4", "<f4", "<U3", "bool", "complex64", "datetime64[s]"])
def test_anything_but_little_endian_whole_numbers_is_refused(dtype: str) -> None:
    data = _saved(np.zeros(3, dtype=dtype))
    with pytest.raises(OrderError):
        parse_npy_header("x.npy", data, len(data))


def test_a_header_that_claims_more_than_the_file_holds_is_refused() -> None:
    data = _saved(np.zeros(1000, dtype="<u4"))
    with pytest.raises(OrderError, match="claims"):
        parse_npy_header("x.npy", data, len(data) - 4)


def _header(text: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "text",
    [
        b"{'descr': '<u4', 'fortran_order': False, 'shape': (-1,)}",
        b"{'descr': '<u4', 'fortran_order': False, 'shape': (" + b"9" * 400 + b",)}",
        b"{'descr': '<u4', 'fortran_order': False, 'shape': (99999999999, 99999999999, 99999999999)}",
        b"{'descr': [('a', '<u4')], 'fortran_order': False, 'shape': (1,)}",
        b"{'descr': '<u4', 'fortran_order': True, 'shape': (2, 2)}",
        b"__import__('os').system('false')",
        b"(" * 9000,
        b"[" * 4000 + b"]" * 4000,
        b"-" * 9000 + b"1",
        b"\xff\xfe",
    ],
)
def test_hostile_headers_are_errors_of_ours(text: bytes) -> None:
    with pytest.raises(OrderError):
        parse_npy_header("x.npy", _header(text), 1000)


@given(
    st.one_of(
        st.binary(max_size=300), st.binary(max_size=300).map(_header), st.text(max_size=80).map(str.encode).map(_header)
    )
)
@settings(max_examples=300)
def test_any_bytes_give_a_layout_or_an_error_of_ours(data: bytes) -> None:
    try:
        layout = parse_npy_header("x.npy", data, len(data))
    except OrderError:
        return
    assert layout.begin <= len(data)


@given(st.integers(0, 60), st.data())
def test_a_permutation_is_told_from_everything_else(entries: int, data: st.DataObject) -> None:
    values = data.draw(
        st.one_of(
            st.permutations(range(entries)),
            st.lists(st.integers(0, entries + 3), min_size=entries, max_size=entries),
        )
    )
    array = np.array(values, dtype=np.uint32)
    check = PermutationCheck(entries)
    cuts = sorted(data.draw(st.lists(st.integers(0, entries), max_size=3)))
    for begin, end in zip([0, *cuts], [*cuts, entries], strict=True):
        check.add(array[begin:end])
    assert check.is_sound == (sorted(values) == list(range(entries)))
    inside = [value for value in values if value < entries]
    assert check.repeated == len(inside) - len(set(inside))
    assert check.beyond == len(values) - len(inside)
    assert check.zeros == values.count(0)
    assert check.highest == max(values, default=-1)


def test_a_file_of_zeros_is_no_permutation() -> None:
    """As seed2 of the index maps of Pythia: 92 percent zeros."""
    array = np.arange(100_000, dtype=np.uint32)
    array[:92_000] = 0
    check = PermutationCheck(array.size)
    for begin in range(0, array.size, 999):
        check.add(array[begin : begin + 999])
    assert not check.is_sound
    assert (check.zeros, check.repeated, check.highest) == (92_000, 91_999, 99_999)


def test_more_entries_than_an_index_can_name_are_refused() -> None:
    with pytest.raises(ValueError, match="entries"):
        PermutationCheck(1 << 40)


@given(st.integers(0, 500), st.integers(0, 1 << 31), st.integers(0, 3))
def test_a_shuffle_is_a_permutation_and_depends_on_seed_and_epoch(rows: int, seed: int, epoch: int) -> None:
    order = pcg64_shuffle(rows, seed, epoch)
    assert sorted(order.tolist()) == list(range(rows))
    assert order.tolist() == pcg64_shuffle(rows, seed + epoch, 0).tolist()


def test_the_shuffle_is_the_one_that_it_was() -> None:
    assert pcg64_shuffle(10, 6198, 0).tolist() == pcg64_shuffle(10, 6197, 1).tolist()
    assert pcg64_shuffle(10, 6198, 0).tolist() != pcg64_shuffle(10, 6198, 1).tolist()


def test_a_mix_file_is_read_line_by_line() -> None:
    text = b"""# a comment
dclm,preprocessed/dclm/{TOKENIZER}/part-000.npy
dclm,preprocessed/dclm/{TOKENIZER}/part-000.npy

wiki,preprocessed/wiki/{TOKENIZER}/part-001.npy
"""
    found = parse_file_list("mix.txt", text, tokenizer="allenai/dolma2-tokenizer")
    assert found == [
        "preprocessed/dclm/allenai/dolma2-tokenizer/part-000.npy",
        "preprocessed/dclm/allenai/dolma2-tokenizer/part-000.npy",
        "preprocessed/wiki/allenai/dolma2-tokenizer/part-001.npy",
    ]


def test_a_list_inside_a_trainers_configuration_is_read() -> None:
    text = b"""data:
  num_workers: 32
  # ~> GCS
  paths:
    #DCLM
    - http://olmo-data.org/preprocessed/dclm/part-000-00000.npy
    - "s3://bucket/part-001-00000.npy"
evaluators:
  - label: perplexity
    data:
      datasets:
        c4:
          - https://olmo-data.org/eval-data/c4/val/part-0-00000.npy
save_folder: /data
tokenizer:
  identifier: tokenizers/dolma2.json
"""
    assert parse_file_list("OLMo2-7B.yaml", text) == [
        "http://olmo-data.org/preprocessed/dclm/part-000-00000.npy",
        "s3://bucket/part-001-00000.npy",
    ]


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_list_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse_file_list("list", data)
    except OrderError:
        return
    assert found
    assert all(len(path.split()) == 1 for path in found)


ROW = st.fixed_dictionaries(
    {"token_ids": st.lists(st.integers(0, (1 << 32) - 1), max_size=9), "source": st.sampled_from(["c4", "é", "a\nb"])}
)


@given(st.lists(ROW, max_size=8), st.booleans(), st.data())
def test_lines_are_cut_at_any_place(rows: list[dict[str, object]], ended: bool, data: st.DataObject) -> None:
    text = "\n".join(json.dumps(row) for row in rows).encode() + (b"\n" if ended and rows else b"")
    lines = text.split(b"\n")[: len(rows)]
    found = list(lines_between("x", lambda a, b: text[a:b], 0, len(text), len(text)))
    assert found == [line for line in lines if line]
    begin = data.draw(st.integers(0, len(text)))
    later = list(lines_between("x", lambda a, b: text[a:b], begin, len(text), len(text)))
    assert later == found[len(found) - len(later) :]
    end = data.draw(st.integers(0, len(text)))
    first = list(lines_between("x", lambda a, b: text[a:b], 0, end, len(text)))
    assert first == found[: len(first)]
    parsed = [parse_row("x", line, ids="token_ids", source="source") for line in found]
    assert [row.ids.tolist() for row in parsed] == [row["token_ids"] for row in rows]
    assert [row.source for row in parsed] == [row["source"] for row in rows]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"running...",
        b"[1]",
        b'{"ids": [1]}',
        b'{"token_ids": [1.5]}',
        b'{"token_ids": [-1]}',
        b'{"token_ids": [true]}',
        b'{"token_ids": [4294967296]}',
        b'{"token_ids": [[1]]}',
        b'{"token_ids": "1"}',
        b'{"token_ids": [1',
        b'{"token_ids": [NaN]}',
        b"[" * 100_000,
    ],
)
def test_a_broken_row_is_an_error_of_ours(line: bytes) -> None:
    with pytest.raises(OrderError):
        parse_row("x", line, ids="token_ids", source="source")


@given(
    st.one_of(
        st.binary(max_size=100),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=4),
            lambda s: (
                st.lists(s, max_size=3) | st.dictionaries(st.sampled_from(["token_ids", "source"]), s, max_size=2)
            ),
            max_leaves=8,
        ).map(lambda v: json.dumps(v).encode()),
    )
)
def test_any_line_is_a_row_or_an_error_of_ours(line: bytes) -> None:
    try:
        row = parse_row("x", line, ids="token_ids", source="source")
    except OrderError:
        return
    assert isinstance(row, JsonRow)
    assert row.ids.dtype == np.uint32


def test_a_line_without_end_is_refused_early() -> None:
    asked = []

    def read(begin: int, end: int) -> bytes:
        asked.append(end)
        return b"x" * (end - begin)

    with pytest.raises(OrderError, match="a line of more than"):
        list(lines_between("x", read, 0, 1 << 40, 1 << 40))
    assert max(asked) <= 16 << 20
