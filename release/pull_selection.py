"""Which part of a release a pull is about: names and steps turned into records of its manifest."""

from __future__ import annotations

from open360.release.placement import last_checkpoint
from open360.release.targets import MissingFileError, Target, TargetError
from open360.schema.layout import MANIFEST_FILE
from open360.schema.manifest import CheckpointRecord, ChunkRecord, Manifest, RunRecord
from open360.schema.serialization import load_manifest

Part = tuple[ChunkRecord, int, int]  # batches [first, end) of a chunk


class SelectionError(TargetError):
    """The release has no such run, checkpoint or step, or has several."""


def manifest_of(target: Target) -> Manifest:
    """The manifest of a target. Raises MissingFileError, SpecError."""
    known = getattr(target, "manifest", None)  # a target on the Hub has read it already
    if isinstance(known, Manifest):
        return known
    data = target.manifest_bytes()
    if data is None:
        raise MissingFileError(target.label, MANIFEST_FILE, "build it: 'dvc repro'")
    return load_manifest(data, f"{target.label}/{MANIFEST_FILE}")


def find_run(manifest: Manifest, name: str | None) -> RunRecord:
    """The run called `name`; the only one when None. Raises SelectionError."""
    names = [run.name for run in manifest.runs]
    if name is None and len(names) == 1:
        return manifest.runs[0]
    if name in names:
        return manifest.run(name)
    what = f"no run '{name}'" if name is not None else "several runs"
    known = ", ".join(names) or "none"
    raise SelectionError(f"{manifest.name} has {what} (expected one of: {known}); name it with --run")


def find_checkpoint(manifest: Manifest, name: str, run: str | None) -> tuple[RunRecord, CheckpointRecord]:
    """The checkpoint with that name or revision, of the given run or of the only run that has one.

    Raises SelectionError.
    """
    runs = [find_run(manifest, run)] if run is not None else list(manifest.runs)
    found = [
        (record, checkpoint)
        for record in runs
        for checkpoint in record.checkpoints
        if name == checkpoint.name or (checkpoint.published is not None and name == checkpoint.published.revision)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        where = ", ".join(record.name for record, _ in found)
        raise SelectionError(f"{manifest.name} has a checkpoint '{name}' in several runs ({where}); choose with --run")
    known = "; ".join(f"{r.checkpoints[0].name} … {r.checkpoints[-1].name}" for r in runs if r.checkpoints)
    raise SelectionError(
        f"{manifest.name} has no checkpoint '{name}' (expected one of: {known or 'none'}); see 'open360 show'"
    )


def steps_of(run: RunRecord, checkpoint: CheckpointRecord) -> tuple[int, int]:
    """Batches `[first, end)` that are new in a checkpoint since its parent: a checkpoint at step s has seen 0 … s-1.

    Raises SelectionError when there are none.
    """
    parent = next((other.step for other in run.checkpoints if other.name == checkpoint.parent), None)
    before = max((other.step for other in run.checkpoints if other.step < checkpoint.step), default=0)
    first = parent if parent is not None and parent <= checkpoint.step else before
    if checkpoint.step == first:
        raise SelectionError(
            f"checkpoint '{checkpoint.name}' is at step {checkpoint.step}: it has seen no data; "
            f"ask for a later one, such as '{getattr(last_checkpoint(run), 'name', '')}'"
        )
    return first, checkpoint.step


def steps_between(manifest: Manifest, earlier: str, later: str, run: str | None) -> tuple[RunRecord, int, int]:
    """Batches `[first, end)` of a run that lie between two of its checkpoints. Raises SelectionError."""
    (record, first), (other, last) = (find_checkpoint(manifest, name, run) for name in (earlier, later))
    if record.name != other.name:
        where = f"'{first.name}' is of run '{record.name}', '{last.name}' of '{other.name}'"
        raise SelectionError(f"{where}; ask for the part of each run by itself")
    if first.step >= last.step:
        found = f"'{first.name}' at step {first.step}, '{last.name}' at {last.step}"
        raise SelectionError(f"expected two checkpoints, the earlier one first, found {found}")
    return record, first.step, last.step


def chunks_of_steps(run: RunRecord, first: int, end: int) -> list[Part]:
    """The chunks that hold batches `[first, end)`, in order, each with the part `[first, end)` of them that it holds.

    Raises SelectionError when a batch lies outside the run.
    """
    found = [
        (chunk, max(first, chunk.first_step), min(end, chunk.end_step))
        for chunk in sorted(run.chunks, key=lambda chunk: chunk.first_step)
        if chunk.first_step < end and first < chunk.end_step
    ]
    at = first
    for _, begin, stop in found:
        if begin != at:
            break
        at = stop
    if at != end or first >= end or first < 0:
        known = f"0 to {max(chunk.end_step for chunk in run.chunks) - 1}" if run.chunks else "none"
        asked = f"batch {first}" if end - first == 1 else f"batches {first} to {end - 1}"
        raise SelectionError(f"run '{run.name}' has no {asked} (expected: {known}); see 'open360 show'")
    return found
