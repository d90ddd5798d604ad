"""Published configurations: dotted keys, numbers in texts, and files that are none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.evidence.configuration_files import ConfigurationError, number_of, read_configuration, value_at

NEOX = b"""{
  # NeoX writes JSON with comments into YAML files
  "train-iters": 143000,
  "optimizer": {"params": {"lr": 0.001}}
}"""


def test_values_are_found_by_dotted_keys_which_may_hold_dots() -> None:
    plain = read_configuration(NEOX, "models/70M.yml")
    assert value_at(plain, "train-iters") == 143000
    assert value_at(plain, "optimizer.params.lr") == 0.001
    assert value_at({"a.b": {"c.d": 1}}, "a.b.c.d") == 1
    assert value_at({"stages": [{"lr": 1}, {"lr": 2}]}, "stages.1.lr") == 2


@pytest.mark.parametrize("key", ["", "a.", ".a", "a.c", "a.b.c", "list.5", "list.x", "list." + "9" * 5000, "list.²"])
def test_a_key_that_is_not_there_is_an_error_that_names_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="it has no key"):
        value_at({"a": {"b": 1}, "list": [1]}, key)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5), (5.5, 5.5), ("4e12", 4e12), ("2e12T", 2e12), ("1_000", 1000), (" 7 steps", 7), ("1ep", None),
        (True, None), (None, None), ([1], None), ("9" * 41, None), ("${batch}", None),
    ],
)  # fmt: skip
def test_numbers_are_read_from_texts(value: Any, number: float | None) -> None:
    assert number_of(value) == number


@given(st.binary(max_size=200), st.sampled_from(["c.json", "c.yaml", "c"]))
def test_any_bytes_are_a_configuration_or_a_clear_error(data: bytes, path: str) -> None:
    try:
        read_configuration(data, path)
    except ConfigurationError as error:
        assert str(error)


@given(
    st.recursive(st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
    st.text(),
)
def test_any_key_is_found_or_not(plain: Any, key: str) -> None:
    try:
        value_at(plain, key)
    except ConfigurationError as error:
        assert "it has no key" in str(error)
