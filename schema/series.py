"""The series of a run: at which steps checkpoints are declared, and how they are called."""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import Field, model_validator

from open360.schema.model import Described, SpecModel, StepFunction, spec_error
from open360.schema.names import Count, GitCommit, Name, Positive, RelPath, Revision, Url

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


class StepLabel(SpecModel):
    """How `{step}` in a name is made of the run's step: plus `plus`, times `times`, divided by `per`, rounded down.

    `plus` where names go on counting from the parent run, `per: 1000` for names such as `step-715k`, `times: 2` where
    names were rescaled to another batch size.
    """

    plus: Count = 0
    times: Positive = 1
    per: Positive = 1

    def label(self, step: int) -> int:
        """The number that stands in the name of the checkpoint at `step`."""
        return (step + self.plus) * self.times // self.per


class TokenLabel(SpecModel):
    """How `{tokens}` in a name is made of the tokens seen in the run: plus `plus`, divided by `per`, then rounded."""

    plus: Count = Field(default=0, description="tokens of the parent runs, where names count on from them")
    per: Positive = 1_000_000_000
    round: Literal["floor", "ceil", "nearest"] = "nearest"
    nominal: StepFunction[int] | None = Field(
        default=None, description="tokens a step as the names count them, where that is not what was trained"
    )

    def label(self, tokens: int) -> int:
        """The number that stands in the name of a checkpoint that has seen `tokens`."""
        if self.round == "floor":
            return tokens // self.per
        if self.round == "ceil":
            return -(-tokens // self.per)
        return (2 * tokens + self.per) // (2 * self.per)

    def counted(self, step: int, tokens: int) -> int:
        """Tokens that the name is made of: `tokens`, or the nominal count at `step`."""
        if self.nominal is None:
            return tokens + self.plus
        return self.plus + sum((end - first) * value for first, end, value in self.nominal.pieces(step))


class OtherStorage(Described):
    """Checkpoints that are stored in another form than the series says."""

    checkpoints: tuple[Name, ...] = Field(min_length=1)
    format: Literal["safetensors", "pickle"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    optimizer: bool | None = Field(default=None, description="whether the optimizer state is there")


class Missing(SpecModel):
    """Checkpoints that were declared once and are known to be lost, with the reason."""

    first: Count
    last: Count
    reason: str = Field(min_length=5)


class CheckpointList(Described):
    """A published table that lists checkpoints, as CSV with a header; at an address, or in the model repository.

    `step`, `link`, `tokens` are the names of its columns; `only` keeps the rows in which a column has a value
    (`{Stage: stage1}`), where one table lists several runs.
    """

    url: Url | None = None
    path: RelPath | None = Field(default=None, description="a file on 'main' of the model repository")
    step: str = "Step"
    link: str | None = Field(default=None, description="column of the address of a checkpoint")
    tokens: str | None = Field(default=None, description="column of the tokens seen")
    only: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise spec_error("list_place", "", "a list of checkpoints has one place: 'url' or 'path'")
        return self


class PositionFile(Described):
    """A JSON file in each revision in which the trainer noted where it stood; the names are keys of it.

    `rows` counts rows of the epoch in progress, `epoch` the finished epochs.
    """

    path: RelPath
    step: str | None = None
    rows: str | None = None
    epoch: str | None = None
    tokens: str | None = None


class Series(Described):
    """Names and steps of a run's checkpoints.

    `name` is a template of `{index}`, `{step}`, `{tokens}`, each with an optional width (`{index:03d}`).
    Steps are given by `every` (every, 2·every, … up to the run's last step) or one by one and by ranges in `at`;
    `named` adds checkpoints whose names follow no pattern, `unplaced` those whose step nobody has stated.
    A checkpoint's revision on the Hub is its name, unless `revisions` says otherwise; `aliases` are further
    revisions that hold the same weights.
    """

    name: str = Field(default="", description="pattern of the names; needed where steps are given")
    every: Positive | None = None
    at: tuple[Count | StepRange, ...] = ()
    final: bool = Field(default=False, description="the run's last step is a checkpoint although `every` misses it")
    initial: Name | None = Field(default=None, description="name of the checkpoint before the first step")
    first_index: Count = 0
    named: dict[Name, Count] = Field(
        default_factory=dict, description="name and step of checkpoints whose name follows no pattern"
    )
    unplaced: tuple[Name, ...] = Field(default=(), description="checkpoints that exist, but at a step not known")
    step_label: StepLabel = StepLabel()
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
    stored_otherwise: tuple[OtherStorage, ...] = ()
    published: Literal["all", "some"] = Field(
        default="all", description="'some': not every checkpoint of the schedule was published, and no list says which"
    )
    native: Url | None = Field(
        default=None, description="address of the trainer's own checkpoints (optimizer included), with {step}"
    )
    commits: dict[Name, GitCommit] = Field(
        default_factory=dict, description="commit of each checkpoint's revision; a revision that is only named can move"
    )
    lists: tuple[CheckpointList, ...] = Field(default=(), description="published tables of these checkpoints")
    position: PositionFile | None = None

    @model_validator(mode="after")
    def _template_is_safe(self) -> Self:
        rest = TEMPLATE.sub("", self.name)
        if "{" in rest or "}" in rest or not re.fullmatch(r"[A-Za-z0-9._-]*", rest):
            raise spec_error(
                "series_name",
                "/name",
                f"'{self.name}' is no name pattern: letters, digits, '.', '_', '-', {{index}}, {{step}}, {{tokens}}",
            )
        if self.every is not None and self.at:
            raise spec_error("series_steps", "", "a series gives its steps by 'every' or by 'at', one of them")
        if self.every is None and not (self.at or self.named or self.unplaced):
            raise spec_error("series_steps", "", "a series gives its steps by 'every' or by 'at', one of them")
        if not self.name and (self.every is not None or self.at):
            raise spec_error("series_name", "/name", "steps are given, so a 'name' is needed, such as 'step{step}'")
        if len(set(self.named.values())) != len(self.named):
            raise spec_error("duplicate_step", "/named", "two names stand for the same step; use 'aliases'")
        return self

    @model_validator(mode="after")
    def _ranges_are_sane(self) -> Self:
        total = 0
        for index, item in enumerate(self.at):
            if isinstance(item, StepRange) and item.last < item.first:
                raise spec_error("step_range", f"/at/{index}", f"steps {item.first} to {item.last} run backwards")
            total += 1 if isinstance(item, int) else len(item.steps())
        if total > MAX_CHECKPOINTS:
            raise spec_error("series_steps", "/at", f"{total} checkpoints, expected at most {MAX_CHECKPOINTS}")
        return self

    def steps(self, last_step: int) -> list[int]:
        """Steps of all checkpoints but the initial one, increasing, none above `last_step`."""
        if self.every is not None:
            steps = set(range(self.every, last_step + 1, self.every))
        else:
            steps = set()
            for item in self.at:
                found = range(item, item + 1) if isinstance(item, int) else item.steps()
                steps.update(found)
        steps.update(self.named.values())
        if self.final:
            steps.add(last_step)
        if self.initial is not None:
            steps.discard(0)
        return sorted(step for step in steps if step <= last_step)

    def checkpoint_name(self, *, index: int, step: int, tokens: int) -> str:
        """The name of one checkpoint that has seen `tokens` in this run."""
        for name, named_step in self.named.items():
            if named_step == step:
                return name
        label = self.tokens.label(self.tokens.counted(step, tokens))
        return self.name.format(index=index, step=self.step_label.label(step), tokens=label)

    def last_declared_step(self) -> int | None:
        """The last step that `at` or `named` gives, None without either."""
        steps = [item if isinstance(item, int) else item.last for item in self.at]
        return max([*steps, *self.named.values()], default=None)

    def storage(self, checkpoint: str) -> tuple[str | None, str | None]:
        """Format and dtype in which a checkpoint is stored, as declared."""
        for other in self.stored_otherwise:
            if checkpoint in other.checkpoints:
                return other.format or self.format, other.dtype or self.dtype
        return self.format, self.dtype
