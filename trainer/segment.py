"""A segment is a pure function: (parent, rows, slice of the spec, numeric profile) -> (checkpoint, trace).

Everything that goes in is checked before the first step; what comes out is written whole, or not at all.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from open360.schema.atomic import discard_leftovers, write_bytes
from open360.schema.errors import IntegrityError
from open360.schema.layout import CODE_FILE, checkpoint_folder, corpus_folder, trace_path
from open360.schema.run import Run
from open360.schema.schedule import Segment, tokens_at
from open360.schema.serialization import canonical_json, parse_json
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism
from open360.trainer.checkpoint import (
    NEXT,
    POSITION_FILE,
    Position,
    State,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    state_of,
)
from open360.trainer.errors import NonFiniteLossError, NonFiniteWeightsError, UntrainableRunError
from open360.trainer.initialization import initialize_run as initialize_run
from open360.trainer.loop import Step, train_steps
from open360.trainer.model import build_model
from open360.trainer.optimizer import build_optimizer, load_optimizer_tensors
from open360.trainer.recipe import Recipe, recipe_of
from open360.trainer.records import now, write_record
from open360.trainer.rows import ChunkRows
from open360.trainer.slices import slice_digest
from open360.trainer.snapshots import Snapshots

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True)
class SegmentResult:
    """What a segment gave: its files, its position, the loss of its last batch, and where it was resumed, if it was."""

    checkpoint: Path
    trace: Path
    record: Path
    position: Position
    last_loss: float
    resumed_at: int | None


def train_segment(
    spec: ReleaseSpec,
    run: Run,
    segment: Segment,
    root: Path,
    *,
    scratch: Path | None,
    snapshot_seconds: float = 600,
    snapshot_steps: int | None = None,
    progress: Progress | None = None,
    compute_as: determinism.Determinism | None = None,
) -> SegmentResult:
    """Train one segment: read its parent and its chunk in the release folder `root`, write its checkpoint and trace.

    Args:
        scratch: folder for snapshots, from which the segment goes on after it was killed; None: none are kept.
        snapshot_seconds: time between snapshots.
        snapshot_steps: batches between snapshots, instead of `snapshot_seconds`.
        progress: called after each step with (batches done, batches in all, loss).
        compute_as: determinism class to compute in instead of the run's: to see how far other kernels lead.
    Raises:
        UntrainableRunError, NumericProfileError, MissingInputError: before anything is computed.
        IntegrityError: parent or rows are not those of this segment.
        NonFiniteLossError: a batch broke the training; nothing is written.
    """
    recipe = recipe_of(spec, run)
    determinism.apply(compute_as or recipe.determinism)
    work = _Work(spec, recipe, segment, root, compute_as or recipe.determinism)
    folder = scratch / run.name / segment.name if scratch is not None else None
    with Snapshots(folder, work.inputs, seconds=snapshot_seconds, steps=snapshot_steps) as snapshots:
        return work.train(snapshots, progress)


class _Work:
    """One segment in work: its checked inputs, the model and the optimizer."""

    def __init__(
        self, spec: ReleaseSpec, recipe: Recipe, segment: Segment, root: Path, computed_as: determinism.Determinism
    ) -> None:
        run, self.computed_as = recipe.run, computed_as
        self.spec, self.recipe, self.run, self.segment, self.root = spec, recipe, run, segment, root
        if segment.parent is None:
            raise UntrainableRunError(run.name, (f"segment '{segment.name}' has no parent checkpoint",))
        self.parent_label = checkpoint_folder(run.name, segment.parent)
        self.parent = load_checkpoint(root / self.parent_label, self.parent_label)
        self._verify_parent()
        self.rows = ChunkRows(run, segment, root, row_len=recipe.row_len, vocabulary=recipe.vocabulary)
        self.rows_sha256 = self.rows.verify()
        self.spec_sha256 = slice_digest(spec, run, segment.end_step)
        self.inputs = self._inputs_digest()

    def _verify_parent(self) -> None:
        position, run, segment = self.parent.position, self.run, self.segment
        expected: dict[str, object] = {
            "run": run.name,
            "checkpoint": segment.parent,
            "step": segment.first_step,
            "next_row": segment.first_row,
            "determinism": self.recipe.determinism,
            "spec_sha256": slice_digest(self.spec, run, segment.first_step),
        }
        for field, value in expected.items():
            found = getattr(position, field)
            if found != value:
                raise IntegrityError(
                    f"{self.parent_label}/{POSITION_FILE}, '{field}'", str(value), str(found),
                    f"it is no parent of segment '{segment.name}' under this spec; run 'dvc repro' from there on",
                )  # fmt: skip

    def _inputs_digest(self) -> str:
        """Digest of all that this segment is a function of, for snapshots to be compared by."""
        code = self.root / CODE_FILE
        content = {
            "parent": self.parent.position.tensors.model_dump(mode="json"),
            "rows": self.rows_sha256,
            "spec": self.spec_sha256,
            "steps": [self.segment.first_step, self.segment.end_step],
            "profile": determinism.observed_profile(),
            "code": parse_json(code.read_bytes(), CODE_FILE).get("train") if code.is_file() else None,
        }
        return hashlib.sha256(canonical_json(content)).hexdigest()

    def train(self, snapshots: Snapshots, progress: Progress | None) -> SegmentResult:
        """Train from the parent, or from the newest snapshot, to the end of the segment."""
        began = now()
        snapshot = snapshots.newest()
        first = snapshot.step if snapshot is not None else self.segment.first_step
        trace = list(snapshot.trace) if snapshot is not None else []
        model, optimizer = self._restore(snapshot.state if snapshot is not None else self.parent.state)
        last_loss, speeds, before = float("nan"), list[float](), time.perf_counter()
        for step in train_steps(self.recipe, model, optimizer, self.rows.batches(first)):
            if not step.finite:
                snapshots.remove()
                raise self._broken(step)
            trace.append(self._trace_line(step))
            done = step.batch.step + 1
            if done < self.segment.end_step and snapshots.due(done - self.segment.first_step):
                snapshots.take(done, state_of(model, optimizer), trace)
            last_loss, after = step.loss, time.perf_counter()
            speeds.append(round(step.batch.ids.shape[0] * self.recipe.seq_len / max(after - before, 1e-9), 1))
            before = after
            if progress is not None:
                progress(done - self.segment.first_step, self.segment.end_step - self.segment.first_step, last_loss)
        self._check_length(trace)
        position = self._save(model, optimizer, trace)
        observed = {
            "began": began,
            "ended": now(),
            "resumed_at": snapshot.step if snapshot is not None else None,
            "tokens_per_second": speeds,
        }
        record = write_record(self.root, self.run.name, self.segment.name, observed)
        snapshots.remove()
        return SegmentResult(
            checkpoint=self.root / checkpoint_folder(self.run.name, self.segment.name),
            trace=self.root / trace_path(self.run.name, self.segment.name),
            record=record,
            position=position,
            last_loss=last_loss,
            resumed_at=snapshot.step if snapshot is not None else None,
        )

    def _restore(self, state: State) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        model = build_model(self.run)
        load_weights(model, state.weights, self.parent_label)
        optimizer = build_optimizer(self.recipe, model)
        load_optimizer_tensors(optimizer, model, state.optimizer, self.parent_label)
        # Last: building a model draws from the generator.
        torch.set_rng_state(state.rng["torch"])
        return model, optimizer

    def _trace_line(self, step: Step) -> str:
        entry = {
            "step": step.batch.step,
            "loss": step.loss.hex(),
            "grad_norm": step.grad_norm.hex(),
            "lr": step.learning_rate.hex(),
            "tokens": tokens_at(self.run, self.recipe.corpus, step.batch.step + 1),
            "batch_sha256": step.batch.ids_sha256,
        }
        return json.dumps(entry, sort_keys=True)

    def _broken(self, step: Step) -> NonFiniteLossError:
        rows = (step.batch.first_row, step.batch.end_row - 1)
        return NonFiniteLossError(self.run.name, step.batch.step, rows, self.rows.label, step.loss, step.grad_norm)

    def _check_length(self, trace: list[str]) -> None:
        expected = self.segment.end_step - self.segment.first_step
        if len(trace) != expected:
            raise IntegrityError(self.rows.label, f"{expected} batches", f"{len(trace)}", NEXT)

    def _check_finite(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        steps = (self.segment.first_step, self.segment.end_step)
        for name, parameter in model.named_parameters():
            for kind, tensor in {"weights": parameter, **optimizer.state.get(parameter, {})}.items():
                if not bool(torch.isfinite(tensor).all()):
                    raise NonFiniteWeightsError(self.run.name, steps, f"{kind} of '{name}' that are not")

    def _save(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, trace: list[str]) -> Position:
        segment, folder = self.segment, self.root / checkpoint_folder(self.run.name, self.segment.name)
        self._check_finite(model, optimizer)
        trace_file = self.root / trace_path(self.run.name, segment.name)
        discard_leftovers(folder)
        discard_leftovers(trace_file)
        # The trace first: a checkpoint that is there has its trace.
        write_bytes(trace_file, "".join(f"{line}\n" for line in trace).encode())
        return save_checkpoint(
            folder,
            model=model,
            optimizer=optimizer,
            tokenizer=self.root / corpus_folder(self.recipe.corpus.name) / "tokenizer",
            position={
                "run": self.run.name,
                "checkpoint": segment.name,
                "step": segment.end_step,
                "next_row": segment.end_row,
                "tokens": tokens_at(self.run, self.recipe.corpus, segment.end_step),
                "parent": segment.parent,
                "parent_sha256": self.parent.position.tensors.weights,
                "chunk": self.rows.name,
                "rows_sha256": self.rows_sha256,
                "spec_sha256": self.spec_sha256,
                "determinism": self.computed_as,
            },
        )
