"""Runs: one training run each, its configuration, and where its checkpoints are published."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from open360.schema.model import Described, SpecModel, StepFunction, spec_error, unique
from open360.schema.names import Count, Fraction, Name, Positive, RelPath, RepoId, Revision, Sha256, Url
from open360.schema.order import ChunkOrder, MaterializedOrder, Order
from open360.schema.series import MAX_CHECKPOINTS, Series

Precision = Literal["float32", "bfloat16", "float16", "bfloat16-mixed", "float16-mixed", "fp8-mixed"]


class Parent(SpecModel):
    """The checkpoint from which a run starts, in this release or another.

    By `checkpoint` name, by `step`, or as the `final` weights where the number of steps is not known.
    """

    run: Name
    checkpoint: Name | None = None
    step: Count | None = None
    final: bool = Field(default=False, description="the last weights of the run (or of the merge)")
    release: str | None = Field(
        default=None, description="ORG/NAME of the release that holds the run, when not this one"
    )

    @model_validator(mode="after")
    def _one_point(self) -> Self:
        if (self.checkpoint is not None) + (self.step is not None) + self.final != 1:
            raise spec_error("parent_point", "", "a parent is named by 'checkpoint', 'step' or 'final', one of them")
        return self


class ParameterGroup(SpecModel):
    """Parameters whose name matches `match` (a glob) get other settings (as muP asks for)."""

    match: str
    learning_rate: float | None = Field(default=None, description="factor on the schedule's learning rate")
    weight_decay: float | None = None
    initial_std: float | None = None


class Optimizer(Described):
    """The optimizer and its settings; they always come from here, never from a saved state."""

    type: Literal["adamw", "adam", "sgd", "lion", "muon", "adafactor", "ademamix"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=None, gt=0, description="limit of the global gradient norm")
    groups: tuple[ParameterGroup, ...] = ()


class LearningRate(Described):
    """The learning rate as a function of the step; `horizon` is where the decay ends, whatever the last step is.

    With `unit: tokens` warm-up, horizon and decay count predicted ids instead of steps. With `warmup_share` the
    schedule is stated relative to the run: its warm-up is that share of the run's steps, its horizon the last step.
    """

    type: Literal["cosine", "linear", "constant", "wsd", "inverse_sqrt"]
    unit: Literal["steps", "tokens"] = "steps"
    peak: float = Field(gt=0)
    end: float = Field(default=0.0, ge=0)
    start: float = Field(default=0.0, ge=0, description="learning rate before the first step of the warm-up")
    warmup: Count = Field(default=0, description="steps (or tokens)")
    warmup_share: Fraction | None = Field(default=None, description="warm-up as a share of the run's steps")
    counted_from: Literal[0, 1] | None = Field(
        default=None,
        description="number of batch 0 in warm-up and decay; when left out 1 in the warm-up, 0 in the decay",
    )
    floor: float = Field(default=0.0, ge=0, description="lower bound, where the formula falls below it")
    horizon: Positive | None = Field(default=None, description="step (or tokens) at which `end` is reached")
    decay: Positive | None = Field(default=None, description="wsd: steps (or tokens) of the final decay")

    @model_validator(mode="after")
    def _horizon_is_there(self) -> Self:
        if max(self.start, self.end) > self.peak:
            raise spec_error(
                "peak", "/peak", "the peak is the highest learning rate, so 'start' and 'end' lie below it"
            )
        if self.warmup_share is not None:
            if self.warmup or self.horizon is not None or self.unit != "steps" or self.type == "wsd":
                raise spec_error(
                    "warmup_share", "/warmup_share", "a schedule relative to the run has no warmup, horizon or tokens"
                )
            return self
        if self.type in ("cosine", "linear", "wsd"):
            if self.horizon is None:
                raise spec_error("horizon", "/horizon", f"a {self.type} schedule needs its 'horizon' in steps")
            if self.horizon <= self.warmup:
                raise spec_error("horizon", "/horizon", "the horizon lies after the warm-up")
        if self.type == "wsd" and (self.decay is None or self.decay > (self.horizon or 0) - self.warmup):
            raise spec_error("wsd_decay", "/decay", "a wsd schedule needs 'decay' steps that fit after the warm-up")
        return self


class Parallelism(Described):
    """How the run was spread over devices from step `from_step` on."""

    from_step: Count = 0
    world_size: Positive | None = None
    data: Positive | None = None
    tensor: Positive | None = None
    pipeline: Positive | None = None
    per_device_batch: Positive | None = None
    accumulation: Positive = 1
    nodes: Positive | None = None
    device: str | None = None


class Restart(Described):
    """The run was stopped and continued: at `at`, from the checkpoint of step `restored`."""

    at: Count
    restored: Count
    seed: int | None = None
    world_size: Positive | None = None
    reason: str | None = None


class StepSpan(Described):
    """Steps `first` … `last` (inclusive) that were skipped, or whose data was seen and not learned from."""

    first: Count
    last: Count
    reason: str = Field(min_length=3)


class Masking(Described):
    """Rows or tokens that were read but left out of the loss."""

    kind: Literal["repetition", "goldfish", "prompt", "document-boundary", "other"]
    share: Fraction | None = None


class GoldenBatch(SpecModel):
    """A batch that readers can prove themselves with: its number and the digest of its ids (uint32, little-endian)."""

    step: Count
    sha256: Sha256


class PublishedConfiguration(Described):
    """A configuration file of the trainer (JSON or YAML), published at an address or in the model repository.

    `states` maps a field of the run (`batch`, `seq_len`, `steps`, `seed`, `tokens`, `schedule.peak`) to the dotted key
    that states it there.
    """

    url: Url | None = None
    path: RelPath | None = Field(default=None, description="a file on 'main' of the model repository")
    states: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.path is None):
            raise spec_error("configuration_place", "", "a configuration has one place: 'url' or 'path'")
        return self


class HubRepositories(SpecModel):
    """Where a run is published. `aliases` and `former` are other ids of the same model repository."""

    model: RepoId | None = None
    data: RepoId | None = None
    optimizer: RepoId | None = None
    aliases: tuple[RepoId, ...] = ()
    former: tuple[RepoId, ...] = ()


class Preference(SpecModel):
    """Settings of a `dpo` run (Rafailov et al., arXiv 2305.18290). The reference model is the parent."""

    beta: float = Field(gt=0)
    max_prompt: Positive | None = Field(default=None, description="ids of the prompt that are kept")


class Merge(Described):
    """Weights made of other weights without training: the average ("soup") of checkpoints."""

    name: Name
    of: tuple[Parent, ...] = Field(min_length=2)
    factors: tuple[float, ...] = Field(default=(), description="weight of each part; equal when left out")
    hub: HubRepositories = HubRepositories()
    revision: Revision | None = Field(default=None, description="where the merged weights are in the model repository")

    @model_validator(mode="after")
    def _factors_match(self) -> Self:
        if self.factors and len(self.factors) != len(self.of):
            raise spec_error("factors", "/factors", f"expected {len(self.of)} factors, found {len(self.factors)}")
        return self


class RunVariant(Described):
    """A run that differs from the described one in the named fields only (sizes, seeds, deduplicated data).

    Keys of `architecture` replace those of the run one by one, every other field as a whole.
    """

    name: Name
    corpus: Name | None = None
    seed: int | None = None
    parameters: Positive | None = None
    architecture: dict[str, Any] | None = None
    optimizer: Optimizer | None = None
    schedule: LearningRate | None = None
    batch: StepFunction[int] | None = None
    steps: Positive | None = None
    precision: StepFunction[str] | None = None
    parallelism: tuple[Parallelism, ...] | None = None
    hub: HubRepositories | None = None
    order: Order | None = None
    series: Series | None = None
    configuration: PublishedConfiguration | None = None
    golden_batches: tuple[GoldenBatch, ...] | None = None


class Run(Described):
    """One training run.

    `batch` is rows a step. `architecture` holds `transformers`' own configuration keys, verbatim.
    """

    name: Name
    objective: Literal["pretrain", "sft", "dpo"]
    parent: Parent | None = None
    corpus: Name | None = None
    architecture: dict[str, Any] = Field(default_factory=dict)
    parameters: Positive | None = Field(default=None, description="declared number of weights")
    custom_code: bool = Field(default=False, description="loading needs code from the repository")
    optimizer: Optimizer | None = None
    schedule: LearningRate | None = None
    preference: Preference | None = Field(default=None, description="dpo only")
    z_loss: float | None = Field(default=None, gt=0, description="factor of the squared log normaliser in the loss")
    batch: StepFunction[int] | None = None
    seq_len: Positive | None = Field(default=None, description="predicted ids a row, when the corpus does not say")
    steps: Positive | None = Field(default=None, description="batches consumed at the end of the run")
    precision: StepFunction[str] | None = None
    parallelism: tuple[Parallelism, ...] = ()
    seed: int | None = None
    seed_rule: str | None = Field(default=None, description="how the seed in force followed from `seed`, where it did")
    determinism: Literal["portable", "machine", "tolerance"] | None = None
    order: Order = MaterializedOrder(kind="materialized")
    series: Series | None = None
    restarts: tuple[Restart, ...] = ()
    skipped: tuple[StepSpan, ...] = ()
    masking: tuple[Masking, ...] = ()
    hub: HubRepositories = HubRepositories()
    logs: tuple[str, ...] = Field(default=(), description="where the training log is: files of the release or URLs")
    configuration: PublishedConfiguration | None = None
    golden_batches: tuple[GoldenBatch, ...] = ()
    variants: tuple[RunVariant, ...] = ()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        unique([v.name for v in self.variants], lambda i: f"/variants/{i}/name", "duplicate_name")
        if self.preference is not None and self.objective != "dpo":
            raise spec_error("preference", "/preference", f"'preference' belongs to dpo runs, this is {self.objective}")
        for index, run in enumerate(self.expanded()):
            prefix = f"/variants/{index}" if self.variants else ""
            run._check_values(prefix)
            run._check_chunks(prefix)
            run._check_steps(prefix)
        return self

    def _check_values(self, prefix: str) -> None:
        if self.precision is not None:
            known = Precision.__args__  # type: ignore[attr-defined]
            for _, value in self.precision.root:
                if value not in known:
                    raise spec_error("precision", f"{prefix}/precision", f"'{value}' is not one of {', '.join(known)}")
        if self.batch is not None and any(value < 1 for _, value in self.batch.root):
            raise spec_error("batch", f"{prefix}/batch", "a batch holds at least one row")

    def _check_chunks(self, prefix: str) -> None:
        if not isinstance(self.order, ChunkOrder) or self.steps is None or self.batch is None:
            return
        needed = self.order.rows_used * len(self.order.sequence())
        rows = sum((end - first) * batch for first, end, batch in self.batch.pieces(self.steps))
        if needed != rows:
            raise spec_error(
                "chunk_rows",
                f"{prefix}/order/rows_used",
                f"chunks x rows_used is steps x batch: expected {rows}, found {needed}",
            )

    def _check_steps(self, prefix: str) -> None:
        for index, span in enumerate(self.skipped):
            if span.last < span.first or (self.steps is not None and span.last >= self.steps):
                raise spec_error("step_outside_run", f"/skipped/{index}", "these steps lie outside the run")
        if self.series is None or self.steps is None:
            return
        if self.series.every is not None and self.steps // self.series.every > MAX_CHECKPOINTS:
            raise spec_error(
                "series_steps",
                f"{prefix}/series/every",
                f"more than {MAX_CHECKPOINTS} checkpoints in {self.steps} steps",
            )
        given = [(f"at/{i}", item if isinstance(item, int) else item.last) for i, item in enumerate(self.series.at)]
        given += [(f"named/{name}", step) for name, step in self.series.named.items()]
        for where, last in given:
            if last > self.steps:
                raise spec_error(
                    "step_outside_run",
                    f"{prefix}/series/{where}",
                    f"step {last} lies after the run's last step {self.steps}",
                )

    def expanded(self) -> tuple[Run, ...]:
        """The run itself when it has no variants, else one run for each variant."""
        if not self.variants:
            return (self,)
        runs = []
        for variant in self.variants:
            changes = {
                field: getattr(variant, field)
                for field in RunVariant.model_fields
                if getattr(variant, field) is not None and field not in ("architecture", "evidence")
            }
            architecture = {**self.architecture, **(variant.architecture or {})}
            runs.append(self.model_copy(update={**changes, "architecture": architecture, "variants": ()}))
        return tuple(runs)
