"""Pulling: the data or the weights of a checkpoint, or single batches, verified, with a record of where they are from.

* A checkpoint at step *s* has seen batches 0 … *s* - 1; its data are the batches since its parent.
* Whole files are compared by sha256, chunks by the digest of every batch and of all rows, too. Ranges are compared by
  the digests of the step table, which the manifest vouches for.
* The output folder appears whole or not at all. An interrupted pull goes on when it is asked for again.

Every function raises TargetError (no such checkpoint, batch or file), IntegrityError or ChunkFileError (what came is
not what the manifest says), OutputError (`out` exists), OSError (this disk is full or fails), HubError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from open360.release.building import weight_files
from open360.release.hashing import tensors_digest_of
from open360.release.provenance import PROVENANCE_FILE, PlannedRead, Pull, Request, write_provenance
from open360.release.pull_selection import chunks_of_steps, find_checkpoint, find_run, manifest_of, steps_of
from open360.release.remote_rows import planned_ranges, read_batches, read_step_table
from open360.release.row_files import FILE_NAMES, RowForm, write_rows
from open360.release.rows import BatchRows, ChunkReader, StepEntry, StepTable, verify_chunk
from open360.release.staging import check_output, staged
from open360.release.targets import FolderTarget, Target, TargetError
from open360.release.verified_files import FetchedFile, fetch_files
from open360.schema.errors import IntegrityError
from open360.schema.layout import MANIFEST_FILE, SPEC_FILE, path_in_data_repo
from open360.schema.manifest import CheckpointRecord, ChunkRecord, FileRecord

__all__ = ["Pull", "RowForm", "pull_checkpoint_data", "pull_documents", "pull_steps", "pull_weights"]

Progress = Callable[[int, int, str], None]
Part = tuple[ChunkRecord, int, int]  # batches [first, end) of a chunk


def pull_checkpoint_data(
    target: Target,
    checkpoint: str,
    out: Path,
    *,
    run: str | None = None,
    form: RowForm = "parquet",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """The rows that are new in a checkpoint since its parent, into the folder `out`.

    As `parquet`: its chunks and their step tables, as published. As `jsonl` or `npy`: one file of rows.
    """
    manifest = manifest_of(target)
    record, point = find_checkpoint(manifest, checkpoint, run)
    first, end = steps_of(record, point)
    parts = chunks_of_steps(record, first, end)
    if any((begin, stop) != (chunk.first_step, chunk.end_step) for chunk, begin, stop in parts):
        return pull_steps(
            target, first, end - 1, out, run=record.name, form=form, force=force, dry_run=dry_run, progress=progress
        )
    files = [file for chunk, _, _ in parts for file in (chunk.step_table, chunk.file)]
    request = Request(
        target=target,
        manifest=manifest,
        what="data",
        run=record.name,
        checkpoint=point.name,
        first_step=first,
        end_step=end,
        form=form,
    )
    pull = Pull(request=request, reads=_whole(files))
    if dry_run:
        return pull
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, request.identity(), needed=2 * pull.bytes) as staging:
        fetched = fetch_files(target, files, staging.fetched, progress)
        tables = [_verified_table(chunk, fetched) for chunk, _, _ in parts]
        if form == "parquet":
            for file in files:
                _move(fetched[file.path].path, staging.result / path_in_data_repo(file.path))
        else:
            local = {chunk.name: fetched[chunk.file.path].path for chunk, _, _ in parts}
            _write_rows(_local_batches(parts, tables, local), form, staging.result, parts, tables)
        write_provenance(
            pull, staging.result, files=files, entries=_entries(parts, tables), chunks=[chunk for chunk, _, _ in parts]
        )
    return pull.done(out)


def pull_steps(
    target: Target,
    first: int,
    last: int,
    out: Path,
    *,
    run: str | None = None,
    form: RowForm = "parquet",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """Batches `first` … `last` (0-based, both included) into the folder `out`: only their row groups are read."""
    manifest = manifest_of(target)
    record = find_run(manifest, run)
    parts = chunks_of_steps(record, first, last + 1)
    tables = [read_step_table(target, chunk) for chunk, _, _ in parts]
    request = Request(
        target=target, manifest=manifest, what="steps", run=record.name, first_step=first, end_step=last + 1, form=form
    )
    reads = [
        read for part, table in zip(parts, tables, strict=True) for read in planned_ranges(part[0], table, *part[1:])
    ]
    pull = Pull(request=request, reads=tuple(reads))
    if dry_run:
        return pull
    check_output(out, PROVENANCE_FILE, force=force)

    def batches() -> Iterator[BatchRows]:
        for (chunk, begin, stop), table in zip(parts, tables, strict=True):
            for batch in read_batches(target, chunk, table, begin, stop):
                yield batch
                if progress is not None:
                    progress(batch.step + 1 - first, last + 1 - first, f"batch {batch.step}")

    with staged(out, request.identity(), needed=2 * pull.bytes) as staging:
        _write_rows(batches(), form, staging.result, parts, tables)
        write_provenance(pull, staging.result, entries=_entries(parts, tables))
    return pull.done(out)


def pull_weights(
    target: Target,
    checkpoint: str,
    out: Path,
    *,
    run: str | None = None,
    what: Literal["weights", "checkpoint"] = "weights",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """A checkpoint into the folder `out`, ready for `from_pretrained`.

    `what`: `weights` are the files at the top of its folder; `checkpoint` is all of it, with the state of the training.
    """
    manifest = manifest_of(target)
    record, point = find_checkpoint(manifest, checkpoint, run)
    wanted = [file for file in point.files if what == "checkpoint" or "/" not in file.path]
    files = [file.model_copy(update={"path": f"{point.folder}/{file.path}"}) for file in wanted]
    request = Request(target=target, manifest=manifest, what=what, run=record.name, checkpoint=point.name)
    pull = Pull(request=request, reads=_whole(files))
    if dry_run:
        return pull
    if any(file.path == PROVENANCE_FILE for file in wanted):
        raise TargetError(f"checkpoint '{point.name}' holds a file '{PROVENANCE_FILE}', which pulls write themselves")
    check_output(out, PROVENANCE_FILE, force=force)
    with staged(out, request.identity(), needed=pull.bytes) as staging:
        fetched = fetch_files(target, files, staging.fetched, progress)
        _check_tensors(target, point, fetched)
        for inside, file in zip(wanted, files, strict=True):
            _move(fetched[file.path].path, staging.result / inside.path)
        write_provenance(pull, staging.result, files=files, weights=point.tensors.weights)
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


def _whole(files: list[FileRecord]) -> tuple[PlannedRead, ...]:
    return tuple(PlannedRead(path=file.path, begin=0, end=file.bytes) for file in files)


def _move(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    path.replace(to)
    to.chmod(0o644)


def _verified_table(chunk: ChunkRecord, fetched: Mapping[str, FetchedFile]) -> StepTable:
    file, table = fetched[chunk.file.path].path, fetched[chunk.step_table.path].path
    problems = verify_chunk(file, table, chunk)
    if problems:
        problem = problems[0]
        where = f"{chunk.name}, {problem.where}"
        raise IntegrityError(where, problem.expected, problem.found, "see 'open360 validate'")
    return StepTable.from_bytes(table.read_bytes(), name=chunk.step_table.path)


def _local_batches(parts: list[Part], tables: list[StepTable], paths: Mapping[str, Path]) -> Iterator[BatchRows]:
    for (chunk, first, end), table in zip(parts, tables, strict=True):
        path = paths[chunk.name]
        local = FolderTarget(path.parent)
        reader = ChunkReader(chunk.name, table, chunk.file.bytes, lambda b, e: local.read_range(path.name, b, e))  # noqa: B023
        yield from reader.batches(first, end)


def _write_rows(
    batches: Iterator[BatchRows], form: RowForm, folder: Path, parts: list[Part], tables: list[StepTable]
) -> None:
    entries = _entries(parts, tables)
    rows = entries[-1].end_row - entries[0].first_row
    write_rows(batches, form, folder / FILE_NAMES[form], rows=rows, row_len=parts[0][0].row_len)


def _entries(parts: list[Part], tables: list[StepTable]) -> list[StepEntry]:
    return [
        table.entry(step) for (_, first, end), table in zip(parts, tables, strict=True) for step in range(first, end)
    ]


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
