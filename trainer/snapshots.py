"""Snapshots of a segment in work: full states in a scratch folder, from which a killed segment goes on.

They are no outputs. `scratch/<run>/<segment>/step_000012/` holds a state and the trace so far; it counts only when it
was made from the same inputs (parent, rows, slice of the spec, numeric profile, code), else it is thrown away.
A new snapshot stands complete before the older one goes, and is written beside the training, which waits only for a
copy of its tensors.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from open360.schema.atomic import replacing_folder
from open360.schema.errors import Open360Error
from open360.schema.model import ManifestModel
from open360.schema.names import Count, Sha256
from open360.schema.serialization import canonical_json, load_json_model
from open360.trainer.checkpoint import State, StateDigests, read_state, state_digests, write_state

SNAPSHOT_FILE = "snapshot.json"
TRACE_FILE = "trace.jsonl"


class SnapshotRecord(ManifestModel):
    """What a snapshot belongs to: `inputs` is the digest of all that the segment is made from."""

    inputs: Sha256
    step: Count
    tensors: StateDigests


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state in the middle of a segment: `step` batches consumed, and the lines of the trace so far."""

    step: int
    state: State
    trace: list[str]


class Snapshots:
    """The snapshots of one segment. Use it as a context: on leaving, the last write has ended.

    Args:
        folder: scratch folder of the segment; None: no snapshots are kept.
        seconds: time between two snapshots.
        steps: batches between two snapshots, instead of `seconds`.
    """

    def __init__(self, folder: Path | None, inputs: str, *, seconds: float, steps: int | None) -> None:
        self.folder, self.inputs = folder, inputs
        self.seconds, self.steps = seconds, steps
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)

    def newest(self) -> Snapshot | None:
        """The newest snapshot of the same inputs that is whole; all others are removed."""
        if self.folder is None or not self.folder.is_dir():
            return None
        found = None
        for path in sorted(self.folder.iterdir(), reverse=True):
            if found is None and path.name.startswith("step_"):
                found = self._read(path)
                if found is not None:
                    continue
            shutil.rmtree(path, ignore_errors=True)
        return found

    def _read(self, path: Path) -> Snapshot | None:
        try:
            record = load_json_model(SnapshotRecord, (path / SNAPSHOT_FILE).read_bytes(), SNAPSHOT_FILE)
            if record.inputs != self.inputs:
                return None
            state = read_state(path, record.tensors, path.name)
            trace = (path / TRACE_FILE).read_text().splitlines()
        except (Open360Error, OSError, UnicodeDecodeError):
            return None
        return Snapshot(step=record.step, state=state, trace=trace)

    def due(self, steps_done: int) -> bool:
        """Whether a snapshot should be taken, `steps_done` batches after the segment's first."""
        if self.folder is None:
            return False
        if self.steps is not None:
            return steps_done % self.steps == 0
        return time.monotonic() - self._last >= self.seconds

    def take(self, step: int, state: State, trace: list[str]) -> None:
        """Copy a state and write it in the background; waits for the snapshot before it."""
        self.wait()
        if self.folder is None:
            return
        self._last = time.monotonic()
        self._writing = self._pool.submit(
            self._write, self.folder, Snapshot(step=step, state=state.copied(), trace=list(trace))
        )

    def wait(self) -> None:
        """Wait for the write in progress; raises what it raised."""
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, folder: Path, snapshot: Snapshot) -> None:
        path = folder / f"step_{snapshot.step:012d}"
        with replacing_folder(path) as partial:
            write_state(partial, snapshot.state)
            (partial / TRACE_FILE).write_text("".join(f"{line}\n" for line in snapshot.trace))
            record = SnapshotRecord(inputs=self.inputs, step=snapshot.step, tensors=state_digests(partial))
            (partial / SNAPSHOT_FILE).write_bytes(canonical_json(record.model_dump(mode="json")))
        for other in folder.iterdir():
            if other != path:
                shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Remove every snapshot of the segment, and the run's scratch folder when nothing else is in it."""
        self.wait()
        if self.folder is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
