"""What a release declares: its spec and its manifest as the rules read them, and where each statement stands."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from open360.release.building import rate_of
from open360.release.findings import Location
from open360.release.targets import Target, TargetError
from open360.schema.errors import SpecError, SpecProblem, UnsupportedVersionError
from open360.schema.layout import MANIFEST_FILE
from open360.schema.manifest import CheckpointRecord, ChunkRecord, Manifest, RunRecord
from open360.schema.run import Run
from open360.schema.schedule import CheckpointPlan, ScheduleError, checkpoints, rows_at
from open360.schema.serialization import Positions, load_manifest, load_spec_with_positions
from open360.schema.spec import ReleaseSpec


class Declarations:
    """Spec and manifest of a target; what is wrong in them is kept as problems, each with its place."""

    def __init__(self, target: Target) -> None:
        self.spec_problems: tuple[SpecProblem, ...] = ()
        self.manifest_problems: tuple[SpecProblem, ...] = ()
        self.spec_bytes = b""
        self.spec_path = target.spec_path
        self.readable_spec: ReleaseSpec | None = None
        self.readable_manifest: Manifest | None = None
        self._positions: Positions = {}
        self._plans: dict[str, list[CheckpointPlan]] = {}
        self._read_spec(target)
        self.has_manifest = self._read_manifest(target)

    def _read_spec(self, target: Target) -> None:
        try:
            self.spec_bytes = target.spec_bytes()
            self.readable_spec, self._positions = load_spec_with_positions(self.spec_bytes, self.spec_path)
        except SpecError as error:
            self.spec_problems = error.problems
        except (UnsupportedVersionError, TargetError) as error:
            self.spec_problems = (_problem(self.spec_path, str(error)),)

    def _read_manifest(self, target: Target) -> bool:
        try:
            data = target.manifest_bytes()
            if data is None:
                return False
            self.readable_manifest = load_manifest(data, MANIFEST_FILE)
        except SpecError as error:
            self.manifest_problems = error.problems
        except (UnsupportedVersionError, TargetError) as error:
            self.manifest_problems = (_problem(MANIFEST_FILE, str(error)),)
        return True

    @property
    def spec(self) -> ReleaseSpec:
        """The spec; a rule that reads it requires that it could be read."""
        assert self.readable_spec is not None, "a rule that reads the spec requires SPC001"  # noqa: S101
        return self.readable_spec

    @property
    def manifest(self) -> Manifest:
        """The manifest; a rule that reads it requires that it is there and could be read."""
        assert self.readable_manifest is not None, "a rule that reads the manifest requires SPC003 and SPC004"  # noqa: S101
        return self.readable_manifest

    @property
    def title(self) -> tuple[str | None, str | None]:
        """Name and version of the release, as far as a document could be read."""
        document = self.readable_spec or self.readable_manifest
        return (None, None) if document is None else (document.name, document.version)

    def place(self, pointer: str) -> Location:
        """A place in the spec: the value at `pointer`, or the nearest thing around it that is written there."""
        at = pointer
        while at and at not in self._positions:
            at = at.rsplit("/", 1)[0]
        line, column = self._positions.get(at, (1, 1))
        return Location(path=self.spec_path, line=line, column=column, pointer=pointer)

    def declares(self, pointer: str) -> bool:
        """Whether the author wrote the value at `pointer` down (it is no default)."""
        return pointer in self._positions

    def run_pointer(self, name: str) -> str:
        """Pointer of the run called `name`; of the run that it is a variant of."""
        for index, run in enumerate(self.spec.runs):
            if any(expanded.name == name for expanded in run.expanded()):
                return f"/runs/{index}"
        return "/runs"

    def plans(self, run: Run) -> list[CheckpointPlan]:
        """Declared checkpoints of a run; none when the spec does not say enough (which a rule of its own reports)."""
        if run.name not in self._plans:
            try:
                self._plans[run.name] = checkpoints(run, self.spec.corpus_of(run))
            except ScheduleError:
                self._plans[run.name] = []
        return self._plans[run.name]

    def rows_at(self, run: Run, step: int) -> int | None:
        """Rows consumed by the first `step` batches as the spec declares it; None when it does not."""
        try:
            return rows_at(run, step)
        except ScheduleError:
            return None

    def rate(self, run: Run, step: int) -> float | None:
        """Learning rate of a batch as the spec declares it; None when it does not."""
        try:
            return rate_of(run, self.spec.corpus_of(run), step)
        except ScheduleError:
            return None

    def built_runs(self) -> Iterator[tuple[Run, RunRecord]]:
        """Declared runs that the manifest holds too, with their records."""
        records = {record.name: record for record in self.manifest.runs}
        for run in self.spec.all_runs():
            if run.name in records:
                yield run, records[run.name]

    def built_checkpoints(self) -> Iterator[tuple[RunRecord, CheckpointRecord]]:
        """Checkpoints of the manifest, run by run."""
        for run in self.manifest.runs:
            for checkpoint in run.checkpoints:
                yield run, checkpoint

    def place_of(self, run: RunRecord, part: CheckpointRecord | ChunkRecord, field: str = "") -> Location:
        """Where the manifest speaks of a checkpoint or chunk."""
        pointer = self._pointers[run.name, type(part).__name__, part.name]
        return Location(path=MANIFEST_FILE, pointer=f"{pointer}/{field}" if field else pointer)

    @cached_property
    def _pointers(self) -> dict[tuple[str, str, str], str]:
        found = {}
        for i, run in enumerate(self.manifest.runs):
            for j, chunk in enumerate(run.chunks):
                found[run.name, "ChunkRecord", chunk.name] = f"/runs/{i}/chunks/{j}"
            for j, checkpoint in enumerate(run.checkpoints):
                found[run.name, "CheckpointRecord", checkpoint.name] = f"/runs/{i}/checkpoints/{j}"
        return found


def _problem(file: str, message: str) -> SpecProblem:
    message = message.removeprefix(f"{file}: ")
    return SpecProblem(file=file, line=None, column=None, pointer="", code="unreadable", message=message)
