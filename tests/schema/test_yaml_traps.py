"""What YAML makes of unquoted words, and what hostile or broken documents make of the reader."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.schema.errors import SpecError, UnsupportedVersionError
from open360.schema.serialization import MAX_SPEC_BYTES, load_manifest, load_spec, parse_json, parse_yaml


def _value(text: str) -> Any:
    return parse_yaml(f"a: {text}\n".encode(), "x.yaml")[0]["a"]


def _problem(data: bytes) -> tuple[str, int | None, int | None]:
    with pytest.raises(SpecError) as caught:
        load_spec(data, "x.yaml")
    first = caught.value.problems[0]
    assert first.file == "x.yaml"
    return first.code, first.line, first.column


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("NO", "NO"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("008", 8), ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7),
        ("12:30", "12:30"), ("190:20:30", "190:20:30"), ("1_000", "1_000"), ("2026-11-24", "2026-11-24"),
        ("3e-4", 3e-4), ("3E4", 3e4), ("1.", 1.0), (".5", 0.5), ("1.0e+3", 1000.0), (".inf", ".inf"), (".nan", ".nan"),
        ("'no'", "no"), ('"008"', "008"), ("0.1.2", "0.1.2"), ("1e", "1e"), ("<|endoftext|>", "<|endoftext|>"),
        ("=", "="), ("1__0", "1__0"), ("0b11", "0b11"), ("- 1", None),
    ],
)  # fmt: skip
def test_plain_words_are_read_by_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    if text == "- 1":
        with pytest.raises(SpecError):
            _value(text)
        return
    assert _value(text) == value
    assert type(_value(text)) is type(value)


def test_folded_and_literal_blocks_are_text_whatever_they_look_like() -> None:
    assert _value("|-\n  008") == "008"
    assert _value(">-\n  true") == "true"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", ("empty", 1, 1)),
        (b"# only a comment\n", ("empty", 1, 1)),
        (b"---\n...\n", ("empty", 1, 1)),
        (b"open360: 1\nname: x\nname: y\n", ("bad_key", 3, 1)),
        (b"open360: 1\nname: x\nruns:\n  - {name: a, objective: sft, seed: 1, seed: 2}\n", ("bad_key", 4, 40)),
        (b"? [a, b]\n: c\n", ("bad_key", 1, 3)),
        (b"open360: 1\n\tname: x\n", ("yaml_syntax", 2, 1)),
        (b"open360: 1\nname: [x\n", ("yaml_syntax", 3, 1)),
        (b"open360: 1\n---\nname: x\n", ("yaml_syntax", 2, 1)),
        (b"open360: 1\nname: *nobody\n", ("yaml_syntax", 2, 7)),
        (b"open360: 1\nname: \xff\n", ("encoding", 2, 7)),
        ("open360: 1\nname: é".encode("utf-16"), ("encoding", 1, 1)),
        (b'open360: 1\nname: "a\x07"\n', ("yaml_syntax", 2, 9)),
        (b'open360: 1\nname: "\\ud800"\n', ("yaml_syntax", 2, 10)),
        (b"open360: 1\nname: !!python/object/apply:os.system [true]\n", ("yaml_tag", 2, 7)),
        (b"open360: 1\nname: !local x\n", ("yaml_tag", 2, 7)),
        (b"open360: 1\nname: 1e999\n", ("too_large", 2, 7)),
        (b"open360: 1\nname: " + b"9" * 5000, ("too_large", 2, 7)),
        (b"open360: 1\n<<: {name: x}\n", ("missing", 1, 1)),
        (b"- a\n- b\n", ("model_type", 1, 1)),
        (b"just words", ("model_type", 1, 1)),
    ],
)
def test_a_broken_document_is_refused_at_the_place_where_it_breaks(
    data: bytes, problem: tuple[str, int | None, int | None]
) -> None:
    assert _problem(data) == problem


def test_a_byte_order_mark_is_read_over() -> None:
    assert load_spec(b"\xef\xbb\xbfopen360: 1\nname: x\n").name == "x"


def test_a_document_beyond_the_limit_is_not_even_parsed() -> None:
    assert _problem(b"#" * (MAX_SPEC_BYTES + 1))[0] == "too_large"


def test_a_bomb_of_aliases_is_stopped_while_it_is_counted() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    assert _problem("\n".join(lines).encode())[0] == "too_large"


def test_an_anchor_that_holds_itself_is_stopped() -> None:
    assert _problem(b"a: &a [*a]\n")[0] == "too_large"


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
def test_deep_nesting_is_stopped(depth: int) -> None:
    assert _problem(b"a: " + b"[" * depth + b"]" * depth)[0] in ("too_large", "yaml_syntax")
    with pytest.raises(SpecError):
        parse_json(b"[" * depth + b"]" * depth + b"!", "x.json")


def test_aliases_within_reason_are_read() -> None:
    assert parse_yaml(b"a: &x {b: 1}\nc: *x\n", "x.yaml")[0] == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize("version", [b"2", b"0", b"1.0", b"true", b"'1'", b"[]", b"null"])
def test_another_version_is_refused_by_name(version: bytes) -> None:
    with pytest.raises(UnsupportedVersionError, match="not a spec version that this open360 reads"):
        load_spec(b"open360: " + version + b"\nname: x\nfields of a later version: 1\n")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[1,]", b"{'a': 1}", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": 1, "a": 2}', b"\xff", b"nul",
        b'{"a": ' + b"9" * 5000 + b"}", '{"a": 1}'.encode("utf-16"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(SpecError):
        parse_json(data, "manifest.json")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_our_own_errors(data: bytes) -> None:
    for read in (load_spec, load_manifest):
        with pytest.raises((SpecError, UnsupportedVersionError)):
            read(data, "fuzz")


@given(st.text("ab:-[]{}&*!|>'\"#%@`,?~ \n\t0123.", max_size=60))
def test_no_punctuation_raises_anything_but_our_own_errors(text: str) -> None:
    with pytest.raises((SpecError, UnsupportedVersionError)):
        load_spec(text.encode(), "fuzz")
