"""The spec: `release.yaml`, what the author declares. `ReleaseSpec` is its root."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from open360.schema.corpus import Corpus
from open360.schema.model import Described, SpecModel, spec_error, unique
from open360.schema.names import (
    Count,
    GitCommit,
    License,
    Name,
    Positive,
    RelPath,
    SemVer,
    Sha256,
    Swhid,
    Url,
)
from open360.schema.run import Merge, Parent, Run
from open360.schema.schedule import ScheduleError, checkpoints

SPEC_VERSION = 1
SUPPORTED_VERSIONS = (1,)


class Person(SpecModel):
    """An author: a person or a group."""

    name: str = Field(min_length=1)
    email: str | None = None
    orcid: str | None = Field(default=None, pattern=r"^\d{4}-\d{4}-\d{4}-\d{3}[\dX]$")
    affiliation: str | None = None


class Licenses(SpecModel):
    """SPDX ids or expressions of the four parts of a release."""

    weights: License | None = None
    data: License | None = None
    code: License | None = None
    documents: License | None = None


class Link(SpecModel):
    """A named address: paper, homepage, logs, list of checkpoints."""

    name: str
    url: Url


class ExternalCode(Described):
    """Code of others that the release depends on."""

    repository: Url
    commit: GitCommit | None = None


class Container(SpecModel):
    """A container image, pinned by digest."""

    image: str
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{8,64}$")] | None = None


class Code(Described):
    """A repository of code, with the command that runs it and the lock of its environment."""

    repository: Url | None = None
    purpose: str | None = Field(default=None, description="what this code does: data, training, evaluation")
    commit: GitCommit | None = None
    swhid: Swhid | None = None
    dirty: bool | None = None
    entry: str | None = Field(default=None, description="command that starts it")
    lock: RelPath | None = Field(default=None, description="file that pins every dependency")
    lock_sha256: Sha256 | None = None
    container: Container | None = None
    external: tuple[ExternalCode, ...] = ()


class Waiver(SpecModel):
    """A finding that the author accepts, with the reason; reports show it."""

    rule: str = Field(pattern=r"^[A-Z]{3}\d{3}$")
    subject: str | None = Field(default=None, description="name of the thing; all things of the rule when left out")
    reason: str = Field(min_length=10)
    until: datetime.date | None = None


class AtCheckpoints(SpecModel):
    """A selection of checkpoints: by name, or every n-th."""

    names: tuple[Name, ...] = ()
    every: Positive | None = None


class Evaluation(Described):
    """A measurement of checkpoints. Records of it are kept for each checkpoint."""

    task: str = Field(min_length=1)
    runs: tuple[Name, ...] = Field(default=(), description="all runs when left out")
    harness: str = "open360"
    harness_repository: Url | None = None
    harness_commit: GitCommit | None = None
    harness_version: str | None = None
    task_version: str | None = None
    shots: Count = 0
    metrics: tuple[str, ...] = Field(min_length=1)
    unit: Literal["fraction", "percent", "nats", "bits", "ratio", "count", "other"] = "other"
    by: Literal["domain", "source"] | None = None
    seed: int | None = None
    at: Literal["all", "final"] | AtCheckpoints = "all"
    results: str | None = Field(
        default=None,
        description="where the records are: an address, or a path on 'main' of the model repository, with {run}, "
        "{checkpoint}, {step}, {model} (the name of the repository) or {short} (without the part before the first "
        "'-'); a path without {checkpoint} and {step} may also lie in the revision of each checkpoint",
    )


class Memorization(Described):
    """Memorization by checkpoint and data: prompt k, continuation l, greedy (Biderman et al., arXiv 2304.11158)."""

    kind: Literal["memorization"]
    prompt: Positive = 32
    continuation: Positive = 32
    rows_per_chunk: Positive = 1000
    seed: int = 0
    at: Literal["all", "final"] | AtCheckpoints = "all"


class TrainingDynamics(Described):
    """Loss, gradient norm, learning rate, weight and update norms along training."""

    kind: Literal["training-dynamics"]
    at: Literal["all", "final"] | AtCheckpoints = "all"


class Comparison(Described):
    """Scores beside those of other models."""

    kind: Literal["comparison"]
    with_releases: tuple[str, ...] = ()


Analysis = Annotated[Memorization | TrainingDynamics | Comparison, Field(discriminator="kind")]


class ReleaseSpec(SpecModel):
    """A release as its author declares it."""

    model_config = ConfigDict(title="open360 release spec")

    open360: Literal[1] = Field(description="version of this spec's grammar")
    name: Name
    version: SemVer = "0.0.0"
    date: datetime.date | None = None
    description: str | None = None
    aliases: tuple[str, ...] = Field(default=(), description="other names and repo ids of the release")
    authors: tuple[Person, ...] = ()
    licenses: Licenses = Licenses()
    citation: str | None = None
    links: tuple[Link, ...] = ()
    code: tuple[Code, ...] = ()
    corpora: tuple[Corpus, ...] = ()
    runs: tuple[Run, ...] = ()
    merges: tuple[Merge, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    analyses: tuple[Analysis, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    facts_from: tuple[Link, ...] = Field(
        default=(), description="where the facts were read, when not one's own release"
    )
    unconfirmed: tuple[str, ...] = Field(default=(), description="statements that could not be confirmed")

    @model_validator(mode="after")
    def _references_hold(self) -> Self:
        unique([c.name for c in self.corpora], lambda i: f"/corpora/{i}/name", "duplicate_name")
        unique(*self._names_of_runs(), "duplicate_name")
        corpora = {corpus.name for corpus in self.corpora}
        for index, run in enumerate(self.runs):
            used = [(f"/runs/{index}/corpus", run.corpus)]
            used += [(f"/runs/{index}/variants/{i}/corpus", v.corpus) for i, v in enumerate(run.variants)]
            for pointer, corpus in used:
                if corpus is not None and corpus not in corpora:
                    known = ", ".join(sorted(corpora)) or "none"
                    raise spec_error("unknown_corpus", pointer, f"no corpus is called '{corpus}' (declared: {known})")
        runs = {run.name for run in self.all_runs()}
        for index, evaluation in enumerate(self.evaluations):
            for place, name in enumerate(evaluation.runs):
                if name not in runs:
                    pointer = f"/evaluations/{index}/runs/{place}"
                    raise spec_error("unknown_run", pointer, f"no run is called '{name}'")
        self._check_parents()
        return self

    def _names_of_runs(self) -> tuple[list[str], Callable[[int], str]]:
        """Names of all runs and merges, and where each stands."""
        named = [(merge.name, f"/merges/{i}/name") for i, merge in enumerate(self.merges)]
        for i, run in enumerate(self.runs):
            variants = [(variant.name, f"/runs/{i}/variants/{j}/name") for j, variant in enumerate(run.variants)]
            named += variants or [(run.name, f"/runs/{i}/name")]
        return [name for name, _ in named], lambda index: named[index][1]

    def _parents(self) -> list[tuple[str, str, Parent]]:
        """`(run or merge, where it names a parent, the parent)` for all parents that this release holds."""
        found = [
            (run.name, f"/runs/{i}/parent", run.parent)
            for i, declared in enumerate(self.runs)
            for run in declared.expanded()
        ]
        found += [
            (merge.name, f"/merges/{i}/of/{j}", part)
            for i, merge in enumerate(self.merges)
            for j, part in enumerate(merge.of)
        ]
        return [(child, at, parent) for child, at, parent in found if parent is not None and parent.release is None]

    def _check_parents(self) -> None:
        runs = {run.name: run for run in self.all_runs()}
        merges = {merge.name for merge in self.merges}
        above: dict[str, list[str]] = {}
        for child, pointer, parent in self._parents():
            if parent.run in runs:
                self._check_point(pointer, runs[parent.run], parent)
            elif parent.run not in merges:
                raise spec_error("unknown_parent", f"{pointer}/run", f"no run is called '{parent.run}'")
            elif not parent.final:
                raise spec_error("parent_point", pointer, f"'{parent.run}' is a merge: it has 'final' weights only")
            above.setdefault(child, []).append(parent.run)
        for child, pointer, _ in self._parents():
            seen, waiting = set(), list(above[child])
            while waiting:
                ancestor = waiting.pop()
                if ancestor == child:
                    raise spec_error("parent_cycle", pointer, f"run '{child}' is its own ancestor")
                if ancestor not in seen:
                    seen.add(ancestor)
                    waiting += above.get(ancestor, [])

    def _check_point(self, pointer: str, run: Run, parent: Parent) -> None:
        if parent.step is not None and run.steps is not None and parent.step > run.steps:
            raise spec_error(
                "step_outside_run",
                f"{pointer}/step",
                f"step {parent.step} lies after the last step {run.steps} of run '{run.name}'",
            )
        if parent.checkpoint is None or run.series is None:
            return
        try:
            plans = checkpoints(run, self.corpus_of(run))
        except ScheduleError:
            return  # the run does not say enough yet; a rule tells
        known = {*run.series.unplaced, *run.series.aliases, *(n for p in plans for n in (p.name, p.revision))}
        if parent.checkpoint not in known:
            raise spec_error(
                "unknown_checkpoint",
                f"{pointer}/checkpoint",
                f"run '{run.name}' has no checkpoint '{parent.checkpoint}'",
            )

    def all_runs(self) -> tuple[Run, ...]:
        """Every run, variants expanded, in the order of the document."""
        return tuple(run for declared in self.runs for run in declared.expanded())

    def run(self, name: str) -> Run:
        """The run called `name`. Raises KeyError."""
        for run in self.all_runs():
            if run.name == name:
                return run
        raise KeyError(name)

    def corpus(self, name: str) -> Corpus:
        """The corpus called `name`. Raises KeyError."""
        for corpus in self.corpora:
            if corpus.name == name:
                return corpus
        raise KeyError(name)

    def corpus_of(self, run: Run) -> Corpus | None:
        """The corpus that `run` trains on, when it names one."""
        return next((corpus for corpus in self.corpora if corpus.name == run.corpus), None)

    def root_run(self) -> Run | None:
        """The first run without a parent here; its model repository is the primary one."""
        for run in self.all_runs():
            if run.parent is None or run.parent.release is not None:
                return run
        return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `release.yaml`."""
    schema = ReleaseSpec.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
