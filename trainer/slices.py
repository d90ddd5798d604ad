"""The slice of the spec that training reads: its digest ties a checkpoint to the settings that made it. No torch here.

The slice leaves out how its checkpoints are called and, unless the schedule depends on it, how long the run is: a run
that is continued, or gets further checkpoints, keeps the segments that it has.
"""

from __future__ import annotations

import hashlib
from typing import Any

from open360.schema.model import SpecModel, StepFunction
from open360.schema.run import Run
from open360.schema.serialization import canonical_json
from open360.schema.spec import ReleaseSpec
from open360.trainer.determinism import Determinism

NO_PART = {"description", "evidence"}


def determinism_of(run: Run) -> Determinism:
    """The run's determinism class; `machine` when it declares none."""
    return run.determinism or "machine"


def precision_at(run: Run, step: int) -> str:
    """The precision in force for batch `step`; `float32` when the run declares none."""
    return run.precision.at(step) if run.precision is not None else "float32"


def training_slice(spec: ReleaseSpec, run: Run, end_step: int | None = None) -> bytes:
    """Canonical JSON of what training reads of `spec` for `run`.

    Args:
        end_step: leave out what changes at this step or later (a larger batch from there on, say); None: keep all.
    """
    corpus = spec.corpus_of(run)
    row = corpus.row if corpus is not None else None
    return canonical_json(
        {
            "objective": run.objective,
            "parent": _plain(run.parent),
            "architecture": run.architecture,
            "optimizer": _plain(run.optimizer),
            "schedule": _plain(run.schedule),
            "steps": run.steps if run.schedule is not None and run.schedule.warmup_share is not None else None,
            "batch": _by_step(run.batch, end_step),
            "precision": _by_step(run.precision, end_step) or [[0, "float32"]],
            "seed": run.seed,
            "determinism": determinism_of(run),
            "row": {"row_len": row.row_len, "seq_len": run.seq_len or row.seq_len} if row is not None else None,
        }
    )


def slice_digest(spec: ReleaseSpec, run: Run, end_step: int | None = None) -> str:
    """sha256 of `training_slice`."""
    return hashlib.sha256(training_slice(spec, run, end_step)).hexdigest()


def _plain(part: SpecModel | None) -> Any:
    return part.model_dump(mode="json", exclude=NO_PART, exclude_none=True) if part is not None else None


def _by_step(function: StepFunction[Any] | None, end_step: int | None) -> list[list[Any]]:
    pairs = function.root if function is not None else ()
    return [[step, value] for step, value in pairs if end_step is None or step == 0 or step < end_step]
