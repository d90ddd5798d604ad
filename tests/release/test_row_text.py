"""Rows as text: safe for a terminal, documents told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from open360.release.row_text import COLORS, PLAIN, Decoder, Piece, TextForm, TokenizerError, escaped, split

WORDS = ["<end>", "one ", "two ", "\x1b[2J", "line\n", "\u202e", "tab\t", "ü"]


def decoder() -> Decoder:
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<end>"))
    backend.decoder = decoders.Fuse()
    return Decoder("tokenizer.json", backend.to_str().encode())


def table(rows: list[list[int]], **columns: Any) -> pa.Table:
    return pa.table({"row": range(len(rows)), "token_ids": pa.array(rows, pa.list_(pa.uint32())), **columns})


def test_a_row_is_a_line_that_says_which_it_is_and_its_text() -> None:
    form = TextForm(decoder=decoder(), ends=frozenset([0]))
    text = "".join(form(table([[1, 2, 0], [4, 7, 6]], step=[3, 4], source=["a", "b\n"])))
    assert text == "── step 3 · row 0 · a\none two <end>\n\n── step 4 · row 1 · b\\n\nline\nütab\t\n\n"


def test_what_a_terminal_would_obey_is_shown_and_not_done() -> None:
    text = "".join(TextForm(decoder=decoder())(table([[3, 5]], step=[0])))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\x1b[2J\\u202e" in text


@given(st.text())
def test_escaped_text_is_printable_but_for_line_breaks_and_tabs(text: str) -> None:
    assert all(c.isprintable() or c in "\n\t" for c in escaped(text))
    if all(c.isprintable() for c in text):
        assert escaped(text) == text


def test_documents_take_turns_in_two_colours() -> None:
    form = TextForm(decoder=decoder(), ends=frozenset([0]), color=True)
    text = "".join(form(table([[1, 0, 2, 0]], step=[0])))
    first, second = COLORS
    assert f"{first}one <end>{PLAIN}{second}two <end>{PLAIN}" in text


def test_only_documents_of_a_source_are_shown_of_rows_of_ours() -> None:
    documents = [[
        {"source": "a", "id": "x", "start": 0, "length": 2, "offset": 0},
        {"source": "b", "id": "y", "start": 2, "length": 1, "offset": 0},
    ]]  # fmt: skip
    form = TextForm(decoder=decoder(), source="b")
    assert "".join(form(table([[1, 1, 2]], step=[0], documents=documents))) == "── step 0 · row 0\ntwo \n\n"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.sets(st.integers(0, 3)))
def test_a_row_is_cut_after_each_end_and_nothing_is_lost(ids: list[int], ends: set[int]) -> None:
    pieces = split(np.array(ids), frozenset(ends), len(ids))
    assert [id_ for piece in pieces for id_ in ids[piece.begin : piece.end]] == ids
    assert all(ids[piece.end - 1] in ends for piece in pieces[:-1])
    assert not any(id_ in ends for piece in pieces for id_ in ids[piece.begin : piece.end - 1])
    assert all(isinstance(piece, Piece) for piece in pieces)


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"model": {"type": "BPE", "vocab": {}}}'])
def test_what_is_no_tokenizer_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: expected a tokenizer"):
        Decoder("tokenizer.json", data)


def test_ids_beyond_the_vocabulary_give_nothing() -> None:
    assert decoder().text([1, 4_000_000_000, 2]) == "one two "
