"""Which batches of which runs went into a checkpoint: its own run, and the runs that it started from."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

from open360.release.order.resolver import StepOutsideRunError, UnresolvableOrderError
from open360.schema.run import Parent, Run
from open360.schema.schedule import find_checkpoint
from open360.schema.spec import ReleaseSpec


@dataclass(frozen=True, kw_only=True)
class SeenSteps:
    """Batches `[0, end_step)` of a run; to its end, wherever that is, where `end_step` is None."""

    run: Run
    end_step: int | None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What went into some weights: parts of runs, ancestors first, and weights of other releases."""

    seen: tuple[SeenSteps, ...]
    outside: tuple[Parent, ...] = ()


def lineage(spec: ReleaseSpec, name: str, step: int | None = None) -> Lineage:
    """What the weights of a run at `step` (at its end without one), or of a merge, have seen.

    A run in which a merge takes several parts is told once, with the latest of its steps.

    Raises:
        UnresolvableOrderError: no run or merge has that name, or a parent's place in its run is not declared.
        StepOutsideRunError: the run ends before that step.
    """
    above: dict[str, list[str]] = {}
    ends: dict[str, int | None] = {}
    outside: dict[Parent, None] = {}
    waiting = [Parent(run=name, step=step, final=step is None)]
    while waiting:
        point = waiting.pop()
        if point.release is not None:
            outside[point] = None
            continue
        merge = next((merge for merge in spec.merges if merge.name == point.run), None)
        run = None if merge is not None else _run(spec, point.run)
        if run is not None:
            end = _step(spec, run, point)
            known = ends.get(run.name, 0)
            ends[run.name] = None if end is None or known is None else max(end, known)
        if point.run not in above:
            parents = merge.of if merge is not None else (run.parent,) if run is not None and run.parent else ()
            above[point.run] = [parent.run for parent in parents if parent.release is None]
            waiting += reversed(parents)
    ordered = (name for name in TopologicalSorter(above).static_order() if name in ends)
    return Lineage(
        seen=tuple(SeenSteps(run=spec.run(name), end_step=ends[name]) for name in ordered), outside=tuple(outside)
    )


def _run(spec: ReleaseSpec, name: str) -> Run:
    try:
        return spec.run(name)
    except KeyError as error:
        raise UnresolvableOrderError(name, "no run or merge is called so") from error


def _step(spec: ReleaseSpec, run: Run, point: Parent) -> int | None:
    if point.checkpoint is not None:
        if run.series is not None and point.checkpoint in run.series.unplaced:
            raise UnresolvableOrderError(run.name, f"the step of checkpoint '{point.checkpoint}' is not known")
        return find_checkpoint(run, point.checkpoint, spec.corpus_of(run)).step
    if point.step is None:
        return run.steps
    if run.steps is not None and point.step > run.steps:
        raise StepOutsideRunError(run.name, point.step - 1, point.step, run.steps)
    return point.step
