"""Pulling a checkpoint of a release of ours: weights, state of the optimizer, scores; and the release's documents.

Every file is compared with its sha256, weights by the digest of their tensors, too. Functions raise what those of
`open360.release.pulling` do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from open360.release.building import OPTIMIZER_FILE, weight_files
from open360.release.hashing import tensors_digest_of
from open360.release.provenance import PROVENANCE_FILE, PlannedRead, Pull, Request, whole_reads, write_provenance
from open360.release.pull_selection import SelectionError, find_checkpoint, manifest_of
from open360.release.staging import check_output, move_file, staged
from open360.release.targets import Target, TargetError
from open360.release.verified_files import FetchedFile, fetch_files
from open360.schema.errors import IntegrityError
from open360.schema.layout import MANIFEST_FILE, SPEC_FILE
from open360.schema.manifest import CheckpointRecord
from open360.schema.serialization import canonical_json

METRICS_FILE = "metrics.json"
TRACE_FILE = "trace.jsonl"
Progress = Callable[[int, int, str], None]


def pull_weights(
    target: Target,
    checkpoint: str,
    out: Path,
    *,
    run: str | None = None,
    what: Literal["weights", "optimizer", "checkpoint"] = "weights",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """A checkpoint into the folder `out`, ready for `from_pretrained`.

    `what`: `weights` are the files at the top of its folder; `checkpoint` is all of it, with the state of the training;
    `optimizer` the state of the optimizer alone.
    """
    manifest = manifest_of(target)
    record, point = find_checkpoint(manifest, checkpoint, run)
    if what == "optimizer":
        wanted = [file for file in point.files if file.path == OPTIMIZER_FILE]
    else:
        wanted = [file for file in point.files if what == "checkpoint" or "/" not in file.path]
    if not wanted:
        raise SelectionError(f"checkpoint '{point.name}' holds no '{OPTIMIZER_FILE}'; see 'open360 show'")
    files = [file.model_copy(update={"path": f"{point.folder}/{file.path}"}) for file in wanted]
    request = Request(target=target, manifest=manifest, what=what, run=record.name, checkpoint=point.name)
    pull = Pull(request=request, reads=whole_reads(files))
    if dry_run:
        return pull
    if any(file.path == PROVENANCE_FILE for file in wanted):
        raise TargetError(f"checkpoint '{point.name}' holds a file '{PROVENANCE_FILE}', which pulls write themselves")
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, request.identity(), needed=pull.bytes) as staging:
        fetched = fetch_files(target, files, staging.fetched, progress)
        if what != "optimizer":
            _check_tensors(target, point, fetched)
        for inside, file in zip(wanted, files, strict=True):
            move_file(fetched[file.path].path, staging.result / inside.path)
        write_provenance(
            pull, staging.result, files=files, weights=point.tensors.weights if what != "optimizer" else None
        )
    return pull.done(out)


def pull_metrics(
    target: Target,
    checkpoint: str,
    out: Path,
    *,
    run: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Pull:
    """The scores of a checkpoint (`metrics.json`) and the trace of its segment (`trace.jsonl`) into `out`."""
    manifest = manifest_of(target)
    record, point = find_checkpoint(manifest, checkpoint, run)
    files = [point.trace] if point.trace is not None else []
    request = Request(target=target, manifest=manifest, what="metrics", run=record.name, checkpoint=point.name)
    pull = Pull(request=request, reads=whole_reads(files))
    if dry_run:
        return pull
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, request.identity(), needed=pull.bytes) as staging:
        for file in fetch_files(target, files, staging.fetched).values():
            move_file(file.path, staging.result / TRACE_FILE)
        scores = {"checkpoint": point.name, "step": point.step, "tokens": point.tokens, "metrics": point.metrics}
        (staging.result / METRICS_FILE).write_bytes(canonical_json(scores))
        write_provenance(pull, staging.result, files=files)
    return pull.done(out)


def pull_documents(target: Target, out: Path, *, force: bool = False, dry_run: bool = False) -> Pull:
    """The spec and the manifest of a release into the folder `out`, as published."""
    manifest = manifest_of(target)
    documents = {SPEC_FILE: target.spec_bytes(), MANIFEST_FILE: target.manifest_bytes() or b""}
    found = hashlib.sha256(documents[SPEC_FILE]).hexdigest()
    if found != manifest.spec_sha256:
        raise IntegrityError(f"{target.label}/{SPEC_FILE}", manifest.spec_sha256, found, "see 'open360 validate'")
    request = Request(target=target, manifest=manifest, what="manifest")
    reads = [PlannedRead(path=path, begin=0, end=len(data)) for path, data in documents.items()]
    pull = Pull(request=request, reads=tuple(reads))
    if dry_run:
        return pull
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, request.identity(), needed=pull.bytes) as staging:
        for path, data in documents.items():
            (staging.result / path).write_bytes(data)
        write_provenance(pull, staging.result)
    return pull.done(out)


def _check_tensors(target: Target, point: CheckpointRecord, fetched: Mapping[str, FetchedFile]) -> None:
    """Compare the tensors digest; it was made in the pass that made the sha256, where there is one file."""
    files = [fetched[f"{point.folder}/{path}"] for path in weight_files(file.path for file in point.files)]
    if not files:
        return
    found = files[0].digest.tensors if len(files) == 1 else None
    if found is None:
        found = tensors_digest_of(file.path for file in files)
    if found != point.tensors.weights:
        raise IntegrityError(
            f"{target.label}, weights of '{point.name}'",
            f"tensors digest {point.tensors.weights}",
            found,
            "see 'open360 validate'",
        )
