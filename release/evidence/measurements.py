"""Scores of the checkpoints of a release: which records its spec declares, where they lie, and what they hold.

A declared record is at an address, or a path. A path that names `{checkpoint}` or `{step}` lies on `main` of the model
repository; one that names neither lies in the revision of each checkpoint, or is one file on `main` for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.evaluation_records import (
    MAX_RECORD_BYTES,
    EvaluationRecord,
    RecordFile,
    read_records,
    stream_of,
)
from open360.release.evidence.once import once
from open360.release.hub_objects import Repo
from open360.release.remote_listing import at_once
from open360.release.survey import revision_root
from open360.release.targets import FolderTarget
from open360.schema.spec import AtCheckpoints, Evaluation, ReleaseSpec

if TYPE_CHECKING:
    from open360.release.listed_view import SeenCheckpoint
from open360.release.view import ReleaseView

OWN_HARNESS = "open360"
MAIN = "main"
SERVICES = ("wandb.ai", "wandb.me", "comet.com", "comet.ml", "neptune.ai", "tensorboard.dev", "swanlab.cn", "clear.ml")
_FIELD = re.compile(r"\{(run|checkpoint|step|model|short)\}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A declared evaluation of one checkpoint. `file` is None where there is no record, or where none could be read.

    `number` is the place of the evaluation in the spec, `place` where its record is (None: in the manifest); `scores`
    are its records by metric.
    """

    number: int
    evaluation: Evaluation
    checkpoint: SeenCheckpoint
    place: str | None
    file: RecordFile | None
    scores: Mapping[str, tuple[EvaluationRecord, ...]]


def is_address(place: str) -> bool:
    """Whether a place is an address, not a path."""
    return place.startswith(("http://", "https://"))


def service_of(address: str) -> str | None:
    """The third party's service that an address leads to, such as `wandb.ai`; None when it leads elsewhere."""
    try:
        host = urlsplit(address).hostname or ""
    except ValueError:
        return None
    return next((name for name in SERVICES if host == name or host.endswith(f".{name}")), None)


def evaluation_name(spec: ReleaseSpec, number: int) -> str:
    """Name of an evaluation: its task, with the shots where several evaluations are of one task."""
    evaluation = spec.evaluations[number]
    same = [other for other in spec.evaluations if other.task == evaluation.task]
    return evaluation.task if len(same) == 1 else f"{evaluation.task} ({evaluation.shots} shots)"


def evaluated(evaluation: Evaluation, checkpoints: list[SeenCheckpoint]) -> list[SeenCheckpoint]:
    """Those of a run's checkpoints at which an evaluation is declared."""
    if evaluation.at == "final":
        return checkpoints[-1:]
    if isinstance(evaluation.at, AtCheckpoints):
        chosen = checkpoints[:: evaluation.at.every] if evaluation.at.every is not None else []
        taken = {checkpoint.name for checkpoint in chosen}
        return [*chosen, *(c for c in checkpoints if c.name in evaluation.at.names and c.name not in taken)]
    return checkpoints


def declared_records(release: ReleaseView) -> list[tuple[int, SeenCheckpoint, str | None]]:
    """`(number of the evaluation, checkpoint, where its record is)` of all that is declared, in the sample or not.

    None: in the manifest. Raises CannotCheckError.
    """
    return list(_expected(release))


@once
def measurements(release: ReleaseView) -> list[Measurement]:
    """Every declared evaluation of every checkpoint that is there; of the records a sample. Each file is read once.

    Raises CannotCheckError, and HubError.
    """
    return list(_measure(release))


def _measure(release: ReleaseView) -> Iterator[Measurement]:
    expected = list(_expected(release))
    places = dict.fromkeys(place for _, _, place in expected if place is not None)
    in_reach = not isinstance(release.target, FolderTarget)  # a folder is judged without a network
    wanted = release.sampled((place for place in places if in_reach or not is_address(place)), lambda place: place)
    files = dict(zip(wanted, at_once(lambda place: _read(release, place), wanted), strict=True))
    streams = _Streams()
    for number, checkpoint, place in expected:
        evaluation = release.spec.evaluations[number]
        if place is None:
            metrics = checkpoint.record.metrics if checkpoint.record is not None else {}
            own = (EvaluationRecord(metric=name, value=value) for name, value in metrics.items())
            file: RecordFile | None = RecordFile(records=tuple(own))
        elif place in files:
            file = files[place]
        else:
            continue
        task, at = evaluation.task, place or checkpoint.root
        scores = {metric: streams.scores(at, file, task, metric, checkpoint) for metric in evaluation.metrics}
        yield Measurement(
            number=number, evaluation=evaluation, checkpoint=checkpoint, place=place, file=file, scores=scores
        )


def _expected(release: ReleaseView) -> Iterator[tuple[int, SeenCheckpoint, str | None]]:
    """`(number of the evaluation, checkpoint, where its record is)`; None: in the manifest."""
    by_run: dict[str, list[SeenCheckpoint]] = {}
    for seen in release.checkpoints:
        by_run.setdefault(seen.run.name, []).append(seen)
    for number, evaluation in enumerate(release.spec.evaluations):
        own = evaluation.harness == OWN_HARNESS and evaluation.results is None
        if (evaluation.results is None and not own) or service_of(evaluation.results or "") is not None:
            continue
        for name, checkpoints in by_run.items():
            if evaluation.runs and name not in evaluation.runs:
                continue
            in_each = evaluation.results is not None and any(evaluation.results in seen.files for seen in checkpoints)
            for seen in evaluated(evaluation, checkpoints):
                yield number, seen, None if own else _place(release, evaluation.results or "", seen, in_each)


def _place(release: ReleaseView, pattern: str, seen: SeenCheckpoint, in_each: bool) -> str:
    """Address or path of the record of a checkpoint."""
    if in_each and not is_address(pattern):
        return seen.path(pattern)
    model = (seen.run.hub.model or "").rsplit("/", 1)[-1]
    words = {
        "run": seen.run.name,
        "checkpoint": seen.name,
        "step": str(seen.step),
        "model": model,
        "short": model.split("-", 1)[-1],
    }
    place = _FIELD.sub(lambda match: words[match[1]], pattern)
    if is_address(place) or release.foreign is None or seen.run.hub.model is None:
        return place
    return f"{revision_root(Repo(id=seen.run.hub.model, type='model'), MAIN)}/{place}"


def _read(release: ReleaseView, place: str) -> RecordFile | None:
    if is_address(place):
        try:
            return read_records(release.addresses.read(place, MAX_RECORD_BYTES), place)
        except AddressError:
            return None  # another rule tells of dead addresses
    if place not in release.listing:
        return None
    data = release.read(place, MAX_RECORD_BYTES)
    if data is None:
        return RecordFile(problems=(release.unreadable[place],))
    return read_records(data, place)


class _Streams:
    """Records of metrics by checkpoint: one file may hold those of thousands, and is sorted once."""

    def __init__(self) -> None:
        self._sorted: dict[tuple[str, str, str], dict[str | None, list[tuple[int, EvaluationRecord]]]] = {}

    def scores(
        self, place: str, file: RecordFile | None, task: str, metric: str, seen: SeenCheckpoint
    ) -> tuple[EvaluationRecord, ...]:
        """The records of a metric in the file at `place` that are, or may be, of this checkpoint."""
        if file is None:
            return ()
        key = (place, task, metric)
        if key not in self._sorted:
            by_checkpoint = self._sorted[key] = {}
            for at, record in enumerate(stream_of(file.records, task, metric)):
                by_checkpoint.setdefault(record.checkpoint, []).append((at, record))
        names = {None, seen.name, seen.listed.revision if seen.listed is not None else seen.name}
        found = [pair for name in names for pair in self._sorted[key].get(name, ())]
        return tuple(record for _, record in sorted(found, key=lambda pair: pair[0]))
