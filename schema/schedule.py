"""Arithmetic of a run: rows and tokens at a step, checkpoints, segments, learning rate. Pure functions of the spec.

A step is an optimizer step. Batch *N* is 0-based; a checkpoint's step *s* is the number of batches consumed, so
checkpoint *s* has seen batches 0 … s-1. A segment is a half-open range of steps `[first, end)`.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass

from open360.schema.corpus import Corpus
from open360.schema.errors import Open360Error
from open360.schema.order import ChunkOrder
from open360.schema.run import LearningRate, Run

PI = decimal.Decimal("3.14159265358979323846264338327950288419716939937510582")


class ScheduleError(Open360Error):
    """The spec does not say enough, or not that, to answer a question about a run."""


@dataclass(frozen=True, kw_only=True)
class CheckpointPlan:
    """A declared checkpoint. `index` is None for the initial one."""

    name: str
    step: int
    index: int | None
    revision: str
    tokens: int | None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What lies between two neighbouring checkpoints: batches `first_step` … `end_step - 1`."""

    name: str
    parent: str | None
    index: int
    first_step: int
    end_step: int
    first_row: int
    end_row: int

    @property
    def rows(self) -> int:
        """Rows trained on in this segment."""
        return self.end_row - self.first_row


def rows_at(run: Run, step: int) -> int:
    """Rows consumed by the first `step` batches. Raises ScheduleError when the batch is not declared."""
    if run.batch is None:
        raise ScheduleError(
            f"run '{run.name}' declares no 'batch', so its rows at step {step} are unknown; add 'batch'"
        )
    return sum((end - first) * batch for first, end, batch in run.batch.pieces(step)) if step else 0


def seq_len_of(run: Run, corpus: Corpus | None) -> int:
    """Predicted ids a row. Raises ScheduleError when neither the corpus nor the run says it."""
    if run.seq_len is not None:
        return run.seq_len
    if corpus is not None and corpus.row is not None:
        return corpus.row.seq_len
    raise ScheduleError(f"run '{run.name}' has no sequence length; add 'seq_len' to it or 'row' to its corpus")


def tokens_at(run: Run, corpus: Corpus | None, step: int) -> int:
    """Tokens predicted in the first `step` batches: rows x seq_len, never read off a name."""
    return rows_at(run, step) * seq_len_of(run, corpus)


def checkpoints(run: Run, corpus: Corpus | None = None) -> list[CheckpointPlan]:
    """All declared checkpoints of a run, by step; the initial one first. Empty without a series."""
    if run.series is None:
        return []
    series = run.series
    last = run.steps if run.steps is not None else series.last_declared_step()
    if run.steps is None and (series.every is not None or series.final):
        raise ScheduleError(f"run '{run.name}' has a series but no 'steps'; add the number of batches of the run")
    plans: list[tuple[str, int, int | None]] = []
    if series.initial is not None:
        plans.append((series.initial, 0, None))
    countable = run.batch is not None and (run.seq_len is not None or (corpus is not None and corpus.row is not None))
    for index, step in enumerate(series.steps(last) if last is not None else [], start=series.first_index):
        tokens = tokens_at(run, corpus, step) if countable else 0
        plans.append((series.checkpoint_name(index=index, step=step, tokens=tokens), step, index))
    if len({name for name, _, _ in plans}) != len(plans):
        raise ScheduleError(
            f"two checkpoints of run '{run.name}' have one name; put {{step}} or {{index}} into the pattern"
        )
    return [
        CheckpointPlan(
            name=name,
            step=step,
            index=index,
            revision=series.revisions.get(name, name),
            tokens=tokens_at(run, corpus, step) if countable else None,
        )
        for name, step, index in plans
    ]


def find_checkpoint(run: Run, name: str, corpus: Corpus | None = None) -> CheckpointPlan:
    """The declared checkpoint called `name`, or known by that revision or alias. Raises ScheduleError."""
    plans = checkpoints(run, corpus)
    wanted = run.series.aliases.get(name, name) if run.series is not None else name
    for plan in plans:
        if wanted in (plan.name, plan.revision):
            return plan
    near = ", ".join([plans[0].name, "…", plans[-1].name]) if len(plans) > 1 else "none declared"
    raise ScheduleError(f"run '{run.name}' has no checkpoint '{name}' (expected one of: {near}); see 'open360 show'")


def segments(run: Run, corpus: Corpus | None = None) -> list[Segment]:
    """The segments of a run in order. The first one starts at step 0, with the initial checkpoint as parent if any."""
    plans = checkpoints(run, corpus)
    found: list[Segment] = []
    first, parent = 0, None
    for plan in plans:
        if plan.step == 0:
            parent = plan.name
            continue
        found.append(
            Segment(
                name=plan.name,
                parent=parent,
                index=len(found),
                first_step=first,
                end_step=plan.step,
                first_row=rows_at(run, first),
                end_row=rows_at(run, plan.step),
            )
        )
        first, parent = plan.step, plan.name
    return found


def segment_of_step(run: Run, step: int, corpus: Corpus | None = None) -> Segment:
    """The segment that trains batch `step` (0-based). Raises ScheduleError outside the run."""
    for segment in segments(run, corpus):
        if segment.first_step <= step < segment.end_step:
            return segment
    raise ScheduleError(
        f"run '{run.name}' has no batch {step} (expected 0 to {(run.steps or 1) - 1}); see 'open360 show'"
    )


def newest_chunk(run: Run, segment: Segment) -> int:
    """Number of the chunk that a segment trains on, for orders of kind `chunk`. Raises ScheduleError otherwise."""
    if not isinstance(run.order, ChunkOrder):
        raise ScheduleError(f"run '{run.name}' has order '{run.order.kind}': a segment is not one chunk there")
    per_chunk = run.order.rows_used
    first, last = segment.first_row // per_chunk, (segment.end_row - 1) // per_chunk
    if first != last:
        raise ScheduleError(f"segment '{segment.name}' spans chunks {first} to {last}; ask by step instead")
    return run.order.sequence()[last]


def learning_rate(
    schedule: LearningRate, step: int, *, steps: int | None = None, tokens_per_step: int | None = None
) -> float:
    """Learning rate of batch `step` (0-based).

    The warm-up ends on batch `warmup - 1` at the peak, the decay then falls over `horizon - warmup` batches: so batch 0
    already learns, and batch `warmup` still does at the peak. With `counted_from` both parts count batch 0 as that
    number. Cosine as in Loshchilov & Hutter (2017), ending at `end`.

    Args:
        steps: batches of the run; needed when the schedule is stated relative to it.
        tokens_per_step: predicted ids a batch; needed when the schedule counts tokens.
    Raises:
        ScheduleError: one of them is needed and not given.
    """
    warmup, horizon, decay, unit = _spans(schedule, steps, tokens_per_step)
    rising = at = (step + (1 if schedule.counted_from is None else schedule.counted_from)) * unit
    if schedule.counted_from is None and schedule.type != "inverse_sqrt":
        at = step * unit
    if step * unit < warmup and rising <= warmup:
        return schedule.start + (schedule.peak - schedule.start) * rising / warmup
    if schedule.type == "inverse_sqrt":
        return max(schedule.peak * math.sqrt(max(warmup, unit) / max(at, warmup, unit)), schedule.floor)
    return max(_decayed(schedule, max(at, warmup), warmup, horizon, decay), schedule.floor)


def _decayed(schedule: LearningRate, at: int, warmup: int, horizon: int, decay: int) -> float:
    if schedule.type == "constant":
        return schedule.peak
    if at >= horizon:
        return schedule.end
    if schedule.type == "wsd":
        return schedule.peak + (schedule.end - schedule.peak) * (max(at - (horizon - decay), 0) / decay)
    if schedule.type == "linear":
        return schedule.peak + (schedule.end - schedule.peak) * ((at - warmup) / (horizon - warmup))
    cosine = _cosine_of_pi(min(at, horizon) - warmup, horizon - warmup)
    return schedule.end + (schedule.peak - schedule.end) * 0.5 * (1.0 + cosine)


def _cosine_of_pi(numerator: int, denominator: int) -> float:
    """cos(pi * numerator / denominator) for a fraction of 0 to 1, rounded once.

    The C library's cosine differs in the last digit between CPUs (with and without fused multiply-add) and versions,
    and a trace holds learning rates to the bit; so this is its power series, in 50 decimal digits.
    """
    with decimal.localcontext(prec=50):
        square = (PI * numerator / denominator) ** 2
        total = term = decimal.Decimal(1)
        for index in range(1, 40):
            term *= -square / ((2 * index - 1) * (2 * index))
            total += term
        return float(total)


def _spans(schedule: LearningRate, steps: int | None, tokens_per_step: int | None) -> tuple[int, int, int, int]:
    """Warm-up, horizon, decay and the length of one step, all in the schedule's unit."""
    if schedule.warmup_share is not None:
        if steps is None:
            raise ScheduleError("this learning rate is stated relative to the run; give the number of its steps")
        warmup = math.ceil(schedule.warmup_share * steps)
        return warmup, max(steps, warmup + 1), 1, 1
    if schedule.unit == "tokens":
        if tokens_per_step is None:
            raise ScheduleError("this learning rate counts tokens; give the tokens of a step")
        unit = tokens_per_step
    else:
        unit = 1
    return schedule.warmup, schedule.horizon or schedule.warmup + 1, schedule.decay or 1, unit
