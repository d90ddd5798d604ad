"""Which rows of a foreign release a pull is about: names, steps and rows turned into steps of one of its runs."""

from __future__ import annotations

from dataclasses import dataclass

from open360.release.pull_selection import SelectionError
from open360.schema.run import Run
from open360.schema.schedule import CheckpointPlan, ScheduleError, checkpoints, rows_at
from open360.schema.spec import ReleaseSpec


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asks for; one of `checkpoint`, `between`, `steps` and `rows`. Ranges are half-open.

    `rows` counts the rows of a run in the order of training; `source` keeps those of one source.
    """

    run: str | None = None
    checkpoint: str | None = None
    between: tuple[str, str] | None = None
    steps: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Rows `[first_row, end_row)` of a run, all of them rows of batches `[first_step, end_step)`.

    `skipped_rows` of these batches come before. Rows are None where the run declares no batch size.
    """

    run: Run
    first_step: int
    end_step: int
    skipped_rows: int = 0
    first_row: int | None
    end_row: int | None
    checkpoint: str | None = None
    source: str | None = None
    is_segment: bool = False

    @property
    def rows(self) -> int | None:
        """How many rows."""
        return None if self.first_row is None or self.end_row is None else self.end_row - self.first_row


def choose(spec: ReleaseSpec, wanted: Wanted) -> Chosen:
    """The rows that are asked for. Raises SelectionError, ScheduleError."""
    if wanted.checkpoint is not None:
        run, plan = find_checkpoint(spec, wanted.checkpoint, wanted.run)
        return _chosen(run, _step_before(spec, run, plan), plan.step, wanted, plan.name)
    if wanted.between is not None:
        first, last = (find_checkpoint(spec, name, wanted.run) for name in wanted.between)
        if first[0].name != last[0].name:
            where = f"'{first[1].name}' is of run '{first[0].name}', '{last[1].name}' of '{last[0].name}'"
            raise SelectionError(f"{where}; ask for the part of each run by itself")
        if not first[1].step < last[1].step:
            steps = f"'{first[1].name}' at step {first[1].step}, '{last[1].name}' at {last[1].step}"
            raise SelectionError(f"expected two checkpoints, the earlier one first, found {steps}")
        return _chosen(last[0], first[1].step, last[1].step, wanted, last[1].name)
    run = find_run(spec, wanted.run)
    if wanted.steps is not None:
        return _chosen(run, *wanted.steps, wanted, None)
    assert wanted.rows is not None  # noqa: S101
    begin, end, skipped = steps_of_rows(run, *wanted.rows)
    return Chosen(
        run=run,
        first_step=begin,
        end_step=end,
        skipped_rows=skipped,
        first_row=wanted.rows[0],
        end_row=wanted.rows[1],
        source=wanted.source,
    )


def _chosen(run: Run, first: int, end: int, wanted: Wanted, checkpoint: str | None) -> Chosen:
    if run.steps is not None and end > run.steps:
        asked = f"batch {first}" if end == first + 1 else f"batches {first} to {end - 1}"
        raise SelectionError(f"run '{run.name}' has no {asked} (expected: 0 to {run.steps - 1}); see 'open360 show'")
    return Chosen(
        run=run,
        first_step=first,
        end_step=end,
        first_row=rows_at(run, first) if run.batch is not None else None,
        end_row=rows_at(run, end) if run.batch is not None else None,
        checkpoint=checkpoint,
        source=wanted.source,
        is_segment=checkpoint is not None,
    )


def find_run(spec: ReleaseSpec, name: str | None) -> Run:
    """The run called `name`; the only one when None. Raises SelectionError."""
    runs = spec.all_runs()
    if name is None and len(runs) == 1:
        return runs[0]
    found = next((run for run in runs if run.name == name), None)
    if found is not None:
        return found
    what = f"no run '{name}'" if name is not None else "several runs"
    raise SelectionError(
        f"{spec.name} has {what} (expected one of: {_few([r.name for r in runs])}); name it with --run"
    )


def find_checkpoint(spec: ReleaseSpec, name: str, run: str | None) -> tuple[Run, CheckpointPlan]:
    """The declared checkpoint of that name, revision or alias, of the given run or the only one that has it.

    Raises SelectionError.
    """
    runs = [find_run(spec, run)] if run is not None else list(spec.all_runs())
    found: list[tuple[Run, CheckpointPlan]] = []
    known: list[str] = []
    for candidate in runs:
        series = candidate.series
        if series is None:
            continue
        if name in series.unplaced:
            known.append(f"{name}, at a step of run '{candidate.name}' that nobody has stated")
        try:
            plans = checkpoints(candidate, spec.corpus_of(candidate))
        except ScheduleError:
            continue
        wanted = series.aliases.get(name, name)
        found += [(candidate, plan) for plan in plans if wanted in (plan.name, plan.revision)][:1]
        if plans:
            known.append(f"{plans[0].name} … {plans[-1].name}")
    if len(found) == 1:
        return found[0]
    if found:
        where = _few([candidate.name for candidate, _ in found])
        raise SelectionError(f"{spec.name} has a checkpoint '{name}' in several runs ({where}); choose with --run")
    told = _few(list(dict.fromkeys(known)), "; ")
    raise SelectionError(f"{spec.name} has no checkpoint '{name}' (expected one of: {told}); see 'open360 show'")


def _few(names: list[str], between: str = ", ") -> str:
    return between.join(names[:12]) + (f"{between}and {len(names) - 12} more" if len(names) > 12 else "") or "none"


def _step_before(spec: ReleaseSpec, run: Run, plan: CheckpointPlan) -> int:
    before = [other.step for other in checkpoints(run, spec.corpus_of(run)) if other.step < plan.step]
    if plan.step == 0:
        raise SelectionError(
            f"checkpoint '{plan.name}' is at step 0 of run '{run.name}': it has seen no data of it; ask for a later one"
        )
    return max(before, default=0)


def steps_of_rows(run: Run, first: int, end: int) -> tuple[int, int, int]:
    """Steps `[begin, stop)` whose batches hold rows `[first, end)` of a run, and how many rows of them come before.

    Raises SelectionError when the run has no such rows, or declares no batch size.
    """
    if run.batch is None:
        raise SelectionError(
            f"run '{run.name}' declares no batch size, so its rows have no numbers; ask by --checkpoint"
        )
    total = rows_at(run, run.steps) if run.steps is not None else None
    if not 0 <= first < end or (total is not None and end > total):
        known = f"rows 0 to {total - 1}" if total is not None else "rows from 0 on, in increasing order"
        raise SelectionError(f"run '{run.name}' has no rows {first} to {end - 1} (expected: {known})")
    begin, before = _step_of_row(run, first)
    last, _ = _step_of_row(run, end - 1)
    return begin, last + 1, first - before


def _step_of_row(run: Run, row: int) -> tuple[int, int]:
    """The batch that holds a row, and the rows before that batch."""
    assert run.batch is not None  # noqa: S101
    starts = [start for start, _ in run.batch.root]
    at = 0
    for start, end in zip(starts, [*starts[1:], None], strict=True):
        batch = run.batch.at(start)
        if end is None or row < at + (end - start) * batch:
            step = start + (row - at) // batch
            return step, at + (step - start) * batch
        at += (end - start) * batch
    raise SelectionError(f"run '{run.name}' has no row {row}")
