"""The series of a run: at which steps checkpoints are declared, and how they are called."""

from __future__ import annotations

import re
from typing import Literal, Self

from open360.schema.model import Described, SpecModel, spec_error
from open360.schema.names import Count, Name, Positive, Revision
from pydantic import Field, model_validator

TEMPLATE = re.compile(r"\{(?P<field>index|step|tokens)(?P<width>:0?\d{1,2}d)?\}")
MAX_CHECKPOINTS = 200_000


class StepRange(SpecModel):
    """`first`, `first + every`, … up to `last`, which is included when the stride meets it."""

    first: Count
    last: Count
    every: Positive

    def steps(self) -> range:
        """The steps of this range."""
        return range(self.first, self.last + 1, self.every)


class TokenLabel(SpecModel):
    """How `{tokens}` in a name is made of the tokens seen: divided by `per`, then rounded."""

    per: Positive = 1_000_000_000
    round: Literal["floor", "ceil", "nearest"] = "nearest"

    def label(self, tokens: int) -> int:
        """The number that stands in the name of a checkpoint that has seen `tokens`."""
        if self.round == "floor":
            return tokens // self.per
        if self.round == "ceil":
            return -(-tokens // self.per)
        return (2 * tokens + self.per) // (2 * self.per)


class Missing(SpecModel):
    """Checkpoints that were declared once and are known to be lost, with the reason."""

    first: Count
    last: Count
    reason: str = Field(min_length=5)


class Series(Described):
    """Names and steps of a run's checkpoints.

    `name` is a template of `{index}`, `{step}`, `{tokens}`, each with an optional width (`{index:03d}`).
    Steps are given by `every` (every, 2·every, … up to the run's last step) or one by one and by ranges in `at`.
    A checkpoint's revision on the Hub is its name, unless `revisions` says otherwise; `aliases` are further
    revisions that hold the same files.
    """

    name: str
    every: Positive | None = None
    at: tuple[Count | StepRange, ...] = ()
    final: bool = Field(default=False, description="the run's last step is a checkpoint although `every` misses it")
    initial: Name | None = Field(default=None, description="name of the checkpoint before the first step")
    first_index: Count = 0
    tokens: TokenLabel = TokenLabel()
    optimizer: Literal["always", "final", "never", "unknown"] = "unknown"
    format: Literal["safetensors", "pickle"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    revisions: dict[Name, Revision] = Field(default_factory=dict)
    aliases: dict[Revision, Name] = Field(default_factory=dict)
    former_names: tuple[str, ...] = ()
    equal: tuple[tuple[Name, ...], ...] = Field(
        default=(), description="checkpoints that hold equal weights on purpose"
    )
    missing: tuple[Missing, ...] = ()

    @model_validator(mode="after")
    def _template_is_safe(self) -> Self:
        rest = TEMPLATE.sub("", self.name)
        if "{" in rest or "}" in rest or not re.fullmatch(r"[A-Za-z0-9._-]*", rest):
            raise spec_error(
                "series_name",
                "/name",
                f"'{self.name}' is no name pattern: letters, digits, '.', '_', '-', {{index}}, {{step}}, {{tokens}}",
            )
        if (self.every is None) == (not self.at):
            raise spec_error("series_steps", "", "a series gives its steps by 'every' or by 'at', one of them")
        return self

    def steps(self, last_step: int) -> list[int]:
        """Steps of all checkpoints but the initial one, increasing, none above `last_step`."""
        if self.every is not None:
            if last_step // self.every > MAX_CHECKPOINTS:
                raise ValueError(f"a series of more than {MAX_CHECKPOINTS} checkpoints is refused")
            steps = set(range(self.every, last_step + 1, self.every))
        else:
            steps = set()
            for item in self.at:
                found = range(item, item + 1) if isinstance(item, int) else item.steps()
                if len(steps) + len(found) > MAX_CHECKPOINTS:
                    raise ValueError(f"a series of more than {MAX_CHECKPOINTS} checkpoints is refused")
                steps.update(found)
        if self.final:
            steps.add(last_step)
        if self.initial is not None:
            steps.discard(0)
        return sorted(step for step in steps if step <= last_step)

    def checkpoint_name(self, *, index: int, step: int, tokens: int) -> str:
        """The name of one checkpoint."""
        return self.name.format(index=index, step=step, tokens=self.tokens.label(tokens))
