"""Laws of a value that changes at given steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from open360.schema.model import StepFunction
from tests.schema.strategies import step_functions

functions = step_functions(st.integers(1, 64))


@given(functions, st.integers(1, 500))
def test_pieces_cover_every_step_once_and_agree_with_at(function: StepFunction[int], end: int) -> None:
    covered = [(step, value) for first, stop, value in function.pieces(end) for step in range(first, stop)]
    assert covered == [(step, function.at(step)) for step in range(end)]


@given(functions)
def test_the_value_changes_at_the_declared_step_and_not_before(function: StepFunction[int]) -> None:
    for (_, before), (step, after) in zip(function.root, function.root[1:], strict=False):
        assert function.at(step - 1) == before
        assert function.at(step) == after
    assert function.at(10**9) == function.root[-1][1]


@given(functions)
def test_a_function_reads_back_from_what_it_writes(function: StepFunction[int]) -> None:
    assert StepFunction[int].model_validate_json(function.model_dump_json()) == function
    assert StepFunction[int].model_validate(function.model_dump()) == function


def test_a_constant_is_written_as_itself() -> None:
    assert StepFunction[int].model_validate(8).model_dump() == 8
    assert StepFunction[str].model_validate("float32").model_dump() == "float32"


def test_no_pieces_lie_before_step_zero() -> None:
    assert StepFunction[int].model_validate([[0, 8], [200, 16]]).pieces(0) == []


@pytest.mark.parametrize(
    "value",
    [[], [[1, 8]], [[0, 8], [0, 9]], [[0, 8], [5, 9], [4, 9]], [[0]], [[0, 8, 9]], True, 1.5, None, {}, [8], "8"],
)
def test_what_is_no_function_of_the_step_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        StepFunction[int].model_validate(value)
