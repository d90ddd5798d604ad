"""Pulling a checkpoint of a release that open360 did not make: its revision at its commit, compared with the listing.

`weights` are what `from_pretrained` needs, from the top of the revision: settings, tokenizer, code, and weights in one
form (safetensors where there are any). `optimizer` is the trainer's state, `all` everything in the revision, `metrics`
the scores that the spec says where to find. Nothing is loaded or executed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from open360.release.building import is_state
from open360.release.checkpoint_pulling import METRICS_FILE
from open360.release.evidence.measurements import measurements
from open360.release.findings import EvidenceLevel
from open360.release.foreign_provenance import ForeignPull, repositories
from open360.release.foreign_selection import find_checkpoint, find_run
from open360.release.foreign_target import MAIN, ForeignTarget, PartOfTarget
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.order.spans import Span
from open360.release.provenance import PROVENANCE_FILE
from open360.release.pull_selection import SelectionError
from open360.release.read_plan import ReadPlan
from open360.release.staging import check_output, move_file, staged
from open360.release.survey import ListedRevision
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.release.whole_files import fetch_whole, listed_file
from open360.schema.run import Run
from open360.schema.schedule import checkpoints
from open360.schema.serialization import canonical_json

Part = Literal["weights", "optimizer", "all", "metrics"]
Progress = Callable[[int, int, str], None]

_TENSORS = re.compile(r"\.safetensors(\.index\.json)?$")
_PICKLED = re.compile(r"^(pytorch_model|model|consolidated).*\.(bin|pt|pth)(\.index\.json)?$")
_OTHER_WEIGHTS = re.compile(r"\.(bin|pt|pth|ckpt|h5|msgpack|onnx|gguf|ggml|tflite|npz|ot|nemo|distcp)(\.index\.json)?$")
_NOT_NEEDED = re.compile(r"^\.|^readme|\.(md|png|jpe?g|gif|svg|pdf|csv|parquet|jsonl|zip|gz|zst)$", re.IGNORECASE)


def prepare_checkpoint(
    target: ForeignTarget, checkpoint: str, what: Part, *, run: str | None = None
) -> tuple[ForeignPull, PartOfTarget]:
    """What a pull of a checkpoint would read, and the revisions that it is read from.

    Raises SelectionError (no such checkpoint, or it has no such part), TargetError (it is not published), HubError.
    """
    found, name, revision, step = _revision(target, checkpoint, run)
    repo = _repository(target, found, what)
    pinned = found.series.commits.get(name) if found.series is not None and repo.id == found.hub.model else None
    used = pinned if pinned is not None and what != "metrics" else revision
    places = [(repo, used), *([(repo, MAIN)] if what == "metrics" else [])]
    part = PartOfTarget(target, places)
    listed = part.revisions.get((repo, used))
    if listed is None:
        raise TargetError(
            f"{target.label}: expected the revision '{used}' of {repo.id}, found none (or it is not public); "
            "see 'open360 validate'"
        )
    paths = _paths(found, what, name, listed, step)
    if any(path == PROVENANCE_FILE for path in paths):
        raise TargetError(f"'{used}' of {repo.id} holds a file '{PROVENANCE_FILE}', which pulls write themselves")
    files = tuple(listed_file(part, f"{listed.root}/{path}", path) for path in paths)
    plan = ReadPlan()
    for file in files:
        plan.add(Span(file.path, 0, file.bytes), estimated=False)
    pull = ForeignPull(
        target=target,
        what=what,
        run=found,
        checkpoint=name,
        plan=plan,
        whole=files,
        notes=(*_moved(target, listed, revision), *_notes(paths, what)),
        facts={"repositories": repositories(part.revisions.values())},
    )
    return pull, part


def pull_checkpoint(
    pull: ForeignPull, part: PartOfTarget, out: Path, *, force: bool = False, progress: Progress | None = None
) -> ForeignPull:
    """Fetch a checkpoint into the folder `out`. Raises IntegrityError, OutputError, OSError, HubError."""
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, f"{pull.identity()}\n{pull.facts}", needed=pull.bytes) as staging:
        fetched = fetch_whole(part, None, pull.whole, staging.fetched, progress)
        for one in fetched:
            move_file(one.path, staging.result / one.file.name)
        if pull.what == "metrics":
            (staging.result / METRICS_FILE).write_bytes(canonical_json(_scores(pull, part)))
        verified = [f"{one.file.name}: {one.proof}" for one in fetched if one.proof is not None]
        pull.write_provenance(staging.result, fetched=fetched, verified=verified, unverified=_doubts(pull))
    return pull.done(out, _doubts(pull))


def _revision(target: ForeignTarget, name: str, run: str | None) -> tuple[Run, str, str, int | None]:
    """Run, name, revision and step of a checkpoint; the step is None where nobody has stated it."""
    spec = target.document.spec
    runs = [find_run(spec, run)] if run is not None else list(spec.all_runs())
    unplaced = [r for r in runs if r.series is not None and name in r.series.unplaced]
    if len(unplaced) == 1:
        series = unplaced[0].series
        return unplaced[0], name, series.revisions.get(name, name) if series is not None else name, None
    found, plan = find_checkpoint(spec, name, run)
    return found, plan.name, plan.revision, plan.step


def _repository(target: ForeignTarget, run: Run, what: Part) -> Repo:
    if what == "optimizer" and run.hub.optimizer is not None:
        return Repo(id=run.hub.optimizer, type="model")
    if run.hub.model is None:
        raise SelectionError(f"run '{run.name}' of {target.label} names no model repository; add 'hub' to it")
    return Repo(id=run.hub.model, type="model")


def _moved(target: ForeignTarget, listed: ListedRevision, revision: str) -> Iterator[str]:
    """Whether the revision stands for another commit by now than the one that the spec pins, which is what is read."""
    refs = target.survey.refs(listed.repo)
    now = refs.commit_of(revision) if refs is not None else None
    if now != listed.commit:
        found = f"stands for {now} now" if now is not None else "is not there any more"
        yield f"read at commit {listed.commit}, as the spec pins it; '{revision}' of {listed.repo.id} {found}"


def _paths(run: Run, what: Part, name: str, listed: ListedRevision, step: int | None) -> list[str]:
    if what == "metrics":
        return []
    files = listed.files
    if what == "all":
        chosen = list(files)
    elif what == "optimizer":
        own = run.hub.optimizer == listed.repo.id and run.hub.optimizer != run.hub.model
        chosen = [path for path in files if own or "optim" in path.lower()]
    else:
        chosen = weight_paths(files)
    if not chosen:
        raise SelectionError(f"checkpoint '{name}' holds no such files in {listed.root}{_elsewhere(run, what, step)}")
    return sorted(chosen)


def _elsewhere(run: Run, what: Part, step: int | None) -> str:
    series = run.series
    if what != "optimizer" or series is None or series.native is None:
        return "; see 'open360 show'"
    address = series.native.replace("{step}", str(step)) if step is not None else series.native
    return f"; the trainer's own checkpoint, optimizer included, is at {address}"


def weight_paths(files: Mapping[str, RemoteFile]) -> list[str]:
    """The files of a revision that `from_pretrained` needs: weights in one form, and all small things at the top."""
    top = [path for path in files if "/" not in path and not is_state(path)]
    tensors = [path for path in top if _TENSORS.search(path)]
    weights = tensors or [path for path in top if _PICKLED.search(path)]
    beside = [
        path
        for path in top
        if not (
            _TENSORS.search(path) or _PICKLED.search(path) or _OTHER_WEIGHTS.search(path) or _NOT_NEEDED.search(path)
        )
    ]
    return sorted([*weights, *beside]) if weights else []


def _notes(paths: Sequence[str], what: Part) -> Iterator[str]:
    if what in ("weights", "all", "optimizer") and any(_PICKLED.search(p) or _OTHER_WEIGHTS.search(p) for p in paths):
        yield "there are pickled files among these: loading one runs whatever code is in it"
    if what == "weights" and any(path.endswith(".py") for path in paths):
        yield "there is code among these, which from_pretrained runs only with trust_remote_code=True"


def _scores(pull: ForeignPull, part: PartOfTarget) -> dict[str, object]:
    """The scores that the spec declares of a checkpoint, each with the place where it was read."""
    view = ReleaseView(part, EvidenceLevel.LISTED)
    last = checkpoints(pull.run, view.spec.corpus_of(pull.run))[-1].name
    found = [
        {
            "task": measured.evaluation.task,
            "shots": measured.evaluation.shots,
            "harness": measured.evaluation.harness,
            "unit": measured.evaluation.unit,
            "metric": metric,
            "place": measured.place,
            "scores": [{key: value for key, value in asdict(r).items() if value is not None} for r in records],
        }
        for measured in measurements(view)
        if measured.checkpoint.run.name == pull.run.name and measured.checkpoint.name == pull.checkpoint
        if measured.evaluation.at != "final" or pull.checkpoint == last
        for metric, records in measured.scores.items()
        if records
    ]
    if not found:
        raise SelectionError(
            f"checkpoint '{pull.checkpoint}' of run '{pull.run.name}': no scores are published where the spec says "
            "('results' of its evaluations)"
        )
    return {"checkpoint": pull.checkpoint, "run": pull.run.name, "evaluations": found}


def _doubts(pull: ForeignPull) -> list[str]:
    if pull.what == "metrics":
        return ["scores: nobody states a digest of them"]
    return [
        "whether these are the weights of that step: nothing that is published proves it ('open360 validate' looks)"
    ]
