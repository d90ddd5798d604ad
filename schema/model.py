"""Bases of all models: the only place that sets pydantic's configuration.

* `SpecModel`: hand-written documents. Frozen, strict, unknown fields are errors (a typo must not pass).
* `ManifestModel`: generated documents. Frozen, strict, unknown fields are kept, so that a newer writer's
  manifest survives an older reader.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, RootModel, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError


class SpecModel(BaseModel):
    """Base of everything that a person writes in a spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Described(SpecModel):
    """A part of the spec that may say how its facts are known (needed when a release is not one's own)."""

    description: str | None = None
    evidence: str | None = None


class ManifestModel(BaseModel):
    """Base of everything that is generated."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)


def spec_error(code: str, pointer: str, message: str) -> PydanticCustomError:
    """An error of a whole-document check: `pointer` (RFC 6901, relative to the model) tells its place."""
    return PydanticCustomError(code, "{text}", {"text": message, "pointer": pointer})


ValueT = TypeVar("ValueT", int, str)


class StepFunction(RootModel[tuple[tuple[int, ValueT], ...]], Generic[ValueT]):
    """A value that may change at given steps: `8`, or `[[0, 8], [200, 16]]` (16 from batch 200 on).

    Raises a validation error when the first entry is not step 0 or steps do not increase.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _accept_a_constant(cls, value: Any) -> Any:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return ((0, value),)
        if isinstance(value, list):  # strict mode takes tuples only, once a validator has seen the value
            return tuple(tuple(pair) if isinstance(pair, list) else pair for pair in value)
        return value

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        steps = [step for step, _ in self.root]
        if not steps or steps[0] != 0 or any(a >= b for a, b in itertools.pairwise(steps)):
            raise PydanticCustomError(
                "step_function",
                "a value by step starts at step 0 and its steps increase, as in [[0, 8], [200, 16]]",
            )
        return self

    @model_serializer
    def _shorten(self) -> Any:
        return self.root[0][1] if len(self.root) == 1 else [list(pair) for pair in self.root]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        value_type = cls.__pydantic_generic_metadata__["args"]
        plain = {"type": "string"} if value_type and value_type[0] is str else {"type": "integer"}
        pair = {
            "type": "array",
            "prefixItems": [{"type": "integer", "minimum": 0}, plain],
            "minItems": 2,
            "maxItems": 2,
        }
        return {"anyOf": [plain, {"type": "array", "items": pair, "minItems": 1}]}

    def at(self, step: int) -> ValueT:
        """The value in force for batch `step` (0-based)."""
        value = self.root[0][1]
        for start, candidate in self.root:
            if start > step:
                break
            value = candidate
        return value

    def pieces(self, end: int) -> list[tuple[int, int, ValueT]]:
        """`(first step, end step, value)` for each constant stretch of steps 0 … end-1."""
        starts: list[int] = [step for step, _ in self.root if step < end]
        ends = [*starts[1:], end] if starts else []
        return [(a, b, self.at(a)) for a, b in zip(starts, ends, strict=True)]


def unique(values: list[str], describe: Callable[[int], str], code: str) -> None:
    """Raise the validation error `code` at `describe(i)` when value *i* repeats an earlier one."""
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value in seen:
            raise spec_error(code, describe(index), f"the name '{value}' is used twice; names must differ")
        seen[value] = index
