"""A recipe: the part of the spec that training one run needs, complete and supported. No torch here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from open360.schema.corpus import Corpus
from open360.schema.layout import checkpoint_folder
from open360.schema.run import LearningRate, Optimizer, Parent, Run
from open360.schema.schedule import checkpoints, find_checkpoint, seq_len_of
from open360.schema.series import Series
from open360.schema.spec import ReleaseSpec
from open360.trainer.determinism import Determinism
from open360.trainer.errors import UntrainableRunError
from open360.trainer.slices import determinism_of

OPTIMIZERS = ("adamw", "adam")
PRECISIONS = ("float32", "bfloat16-mixed")
NEEDED = ("corpus", "architecture", "optimizer", "schedule", "batch", "steps", "seed", "series")
UNUSED = ("preference", "z_loss")
MADE_ELSEWHERE = ("masking", "skipped", "restarts")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run with everything that training reads of it. `row_len` ids are stored a row, `seq_len` is the context."""

    run: Run
    corpus: Corpus
    optimizer: Optimizer
    schedule: LearningRate
    seed: int
    initial: str
    row_len: int
    seq_len: int
    vocabulary: int
    determinism: Determinism


def recipe_of(spec: ReleaseSpec, run: Run) -> Recipe:
    """The recipe of a run. Raises UntrainableRunError with everything that stands between the run and its training."""
    problems = [*_missing(spec, run), *_unsupported(run)]
    corpus = spec.corpus_of(run)
    # The parts are asked for again one by one, so that the recipe's types hold without a cast.
    if (
        problems
        or corpus is None
        or corpus.row is None
        or run.optimizer is None
        or run.schedule is None
        or run.seed is None
        or run.series is None
        or run.series.initial is None
    ):
        raise UntrainableRunError(run.name, tuple(problems))
    return Recipe(
        run=run,
        corpus=corpus,
        optimizer=run.optimizer,
        schedule=run.schedule,
        seed=run.seed,
        initial=run.series.initial,
        row_len=corpus.row.row_len,
        seq_len=seq_len_of(run, corpus),
        vocabulary=run.architecture["vocab_size"],
        determinism=determinism_of(run),
    )


def _missing(spec: ReleaseSpec, run: Run) -> Iterator[str]:
    for field in NEEDED:
        if getattr(run, field) in (None, {}):
            yield f"it declares no '{field}'"
    corpus = spec.corpus_of(run)
    if corpus is not None and corpus.row is None:
        yield f"its corpus '{corpus.name}' declares no 'row'"
    elif corpus is not None and corpus.row is not None:
        seq_len = seq_len_of(run, corpus)
        if corpus.row.row_len not in (seq_len, seq_len + 1):
            yield f"expected rows of {seq_len} or {seq_len + 1} ids, found row_len {corpus.row.row_len}"
    size = run.architecture.get("vocab_size")
    if run.architecture and (type(size) is not int or size < 1):
        yield f"its architecture needs a 'vocab_size' of at least 1, found {size!r}"
    if run.series is not None and run.series.initial is None:
        yield "its series has no 'initial' checkpoint to start from"


def _unsupported(run: Run) -> Iterator[str]:
    if run.objective != "pretrain":
        yield f"objective '{run.objective}' is not supported (supported: pretrain)"
    if run.optimizer is not None and run.optimizer.type not in OPTIMIZERS:
        yield f"optimizer '{run.optimizer.type}' is not supported (supported: {', '.join(OPTIMIZERS)})"
    for step, precision in run.precision.root if run.precision is not None else ():
        if precision not in PRECISIONS:
            yield f"precision '{precision}' from step {step} is not supported (supported: {', '.join(PRECISIONS)})"
        elif precision != "float32" and run.determinism == "portable":
            yield f"determinism 'portable' needs precision float32, found '{precision}' from step {step}"
    for field in MADE_ELSEWHERE:
        if getattr(run, field):
            yield f"'{field}' tells of a run that was made elsewhere; this trainer does not imitate it"
    for field in UNUSED:
        if getattr(run, field) is not None:
            yield f"'{field}' is declared, but this trainer does not use it; leave it out"
    if run.schedule is not None and run.schedule.unit == "tokens" and run.batch is not None and len(run.batch.root) > 1:
        yield "a schedule in tokens needs a constant 'batch'"
    yield from _unsupported_series(run.series)
    if run.parent is not None and run.parent.release is not None:
        yield f"its parent lies in release '{run.parent.release}', not in this one"


def _unsupported_series(series: Series | None) -> Iterator[str]:
    if series is not None and series.format not in (None, "safetensors"):
        yield f"series format '{series.format}' is not written (supported: safetensors)"
    if series is not None and series.dtype not in (None, "float32"):
        yield f"series dtype '{series.dtype}': training cannot go on from rounded weights (supported: float32)"


def parent_folder(spec: ReleaseSpec, run: Run, parent: Parent) -> str:
    """Folder of the checkpoint that `run` starts from, relative to the release. Raises UntrainableRunError."""
    above = next((other for other in spec.all_runs() if other.name == parent.run), None)
    if above is None:
        raise UntrainableRunError(run.name, (f"its parent '{parent.run}' is no run of this release",))
    corpus = spec.corpus_of(above)
    if parent.checkpoint is not None:
        return checkpoint_folder(above.name, find_checkpoint(above, parent.checkpoint, corpus).name)
    plans = checkpoints(above, corpus)
    for plan in plans[-1:] if parent.final else plans:
        if parent.final or plan.step == parent.step:
            return checkpoint_folder(above.name, plan.name)
    raise UntrainableRunError(run.name, (f"run '{above.name}' has no checkpoint at step {parent.step}",))
