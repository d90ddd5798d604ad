"""Pulling from releases of ours: the data or the weights of a checkpoint, batches, rows; verified, with a record.

* A checkpoint at step *s* has seen batches 0 … *s* - 1; its data are the batches since its parent.
* Whole files are compared by sha256, chunks by the digest of every batch and of all rows, too. Ranges are compared by
  the digests of the step table, which the manifest vouches for.
* The output folder appears whole or not at all. An interrupted pull goes on when it is asked for again.

Every function raises TargetError (no such checkpoint, batch or file), IntegrityError or ChunkFileError (what came is
not what the manifest says), OutputError (`out` exists), OSError (this disk is full or fails), HubError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from open360.release.checkpoint_pulling import pull_documents, pull_metrics, pull_weights
from open360.release.kept_rows import KeptRows
from open360.release.provenance import PROVENANCE_FILE, Pull, Request, whole_reads, write_provenance
from open360.release.pull_selection import (
    Part,
    SelectionError,
    chunks_of_steps,
    find_checkpoint,
    find_run,
    manifest_of,
    steps_between,
    steps_of,
)
from open360.release.remote_rows import planned_ranges, read_step_table
from open360.release.row_files import FILE_NAMES, Form, RowForm, write_rows
from open360.release.row_text import TextForm
from open360.release.rows import BatchRows, ChunkReader, StepEntry, StepTable, verify_chunk
from open360.release.shown_rows import far_batches, steps_of_rows, text_form
from open360.release.staging import check_output, move_file, staged
from open360.release.targets import FolderTarget, Target
from open360.release.verified_files import FetchedFile, fetch_files
from open360.schema.errors import IntegrityError
from open360.schema.layout import path_in_data_repo
from open360.schema.manifest import ChunkRecord, Manifest, RunRecord

__all__ = [
    "Pull",
    "RowForm",
    "pull_between",
    "pull_checkpoint_data",
    "pull_documents",
    "pull_metrics",
    "pull_rows",
    "pull_steps",
    "pull_weights",
]

Progress = Callable[[int, int, str], None]


def pull_checkpoint_data(
    target: Target,
    checkpoint: str,
    out: Path,
    *,
    run: str | None = None,
    form: Form = "parquet",
    source: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """The rows that are new in a checkpoint since its parent, into the folder `out`.

    As `parquet` or `native`: its chunks and their step tables, as published. In another form: one file of rows.
    """
    manifest = manifest_of(target)
    record, point = find_checkpoint(manifest, checkpoint, run)
    steps = steps_of(record, point)
    segment = _Segment(target, manifest, record, *steps, point.name)
    return segment.pull(out, form, source, force=force, dry_run=dry_run, progress=progress)


def pull_between(
    target: Target,
    names: tuple[str, str],
    out: Path,
    *,
    run: str | None = None,
    form: Form = "parquet",
    source: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """The rows that a later checkpoint has seen and an earlier one of the same run has not, into the folder `out`."""
    manifest = manifest_of(target)
    record, first, end = steps_between(manifest, *names, run)
    segment = _Segment(target, manifest, record, first, end, names[1])
    return segment.pull(out, form, source, force=force, dry_run=dry_run, progress=progress)


class _Segment:
    """Batches `[first, end)` of a run, up to a checkpoint."""

    def __init__(
        self, target: Target, manifest: Manifest, record: RunRecord, first: int, end: int, checkpoint: str
    ) -> None:
        self.target, self.record = target, record
        self.parts = chunks_of_steps(record, first, end)
        self.request = Request(
            target=target,
            manifest=manifest,
            what="data",
            run=record.name,
            checkpoint=checkpoint,
            first_step=first,
            end_step=end,
        )

    def pull(
        self,
        out: Path,
        form: Form,
        source: str | None,
        *,
        force: bool,
        dry_run: bool,
        progress: Progress | None,
    ) -> Pull:
        """Whole chunks as files, else batches by range."""
        parts, first, end = self.parts, self.request.first_step or 0, self.request.end_step or 0
        whole = all((begin, stop) == (chunk.first_step, chunk.end_step) for chunk, begin, stop in parts)
        if form == "native" and (source is not None or not whole):
            part = "rows of one source" if source is not None else "a part of a chunk"
            raise SelectionError(f"native gives whole chunks, and {part} was asked for; choose another --as")
        if form != "native" and (source is not None or not whole):
            options = {"run": self.record.name, "force": force, "dry_run": dry_run, "progress": progress}
            return pull_steps(self.target, first, end - 1, out, form=form, source=source, **options)  # type: ignore[arg-type]
        request = self.request.with_form(form)
        files = [file for chunk, _, _ in parts for file in (chunk.step_table, chunk.file)]
        pull = Pull(request=request, reads=whole_reads(files))
        if dry_run:
            return pull
        check_output(out, PROVENANCE_FILE, force=force)
        render = text_form(self.target, request.manifest, self.record, source) if form == "text" else None
        with staged(out, request.identity(), needed=2 * pull.bytes) as staging:
            fetched = fetch_files(self.target, files, staging.fetched, progress)
            tables = [_verified_table(chunk, fetched) for chunk, _, _ in parts]
            if form in ("parquet", "native"):
                for file in files:
                    move_file(fetched[file.path].path, staging.result / path_in_data_repo(file.path))
            else:
                local = {chunk.name: fetched[chunk.file.path].path for chunk, _, _ in parts}
                batches = _local_batches(parts, tables, local)
                _write_rows(batches, form, staging.result, _entries(parts, tables), parts, render=render)  # type: ignore[arg-type]
            write_provenance(
                pull,
                staging.result,
                files=files,
                entries=_entries(parts, tables),
                chunks=[chunk for chunk, _, _ in parts],
            )
        return pull.done(out)


def pull_rows(
    target: Target,
    first: int,
    end: int,
    out: Path,
    *,
    run: str | None = None,
    form: RowForm = "parquet",
    source: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """Rows `[first, end)` of a run, counted in the order of training: only their batches are read."""
    begin, stop = steps_of_rows(target, find_run(manifest_of(target), run), first, end)
    options = {"run": run, "form": form, "force": force, "dry_run": dry_run, "progress": progress}
    return pull_steps(target, begin, stop - 1, out, rows=(first, end), source=source, **options)  # type: ignore[arg-type]


def pull_steps(
    target: Target,
    first: int,
    last: int,
    out: Path,
    *,
    run: str | None = None,
    form: RowForm = "parquet",
    rows: tuple[int, int] | None = None,
    source: str | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Pull:
    """Batches `first` … `last` (0-based, both included) into the folder `out`: only their row groups are read.

    Of their rows only those with numbers in `rows`, and only those that hold a document of `source`, where given.
    """
    manifest = manifest_of(target)
    record = find_run(manifest, run)
    parts = chunks_of_steps(record, first, last + 1)
    tables = [read_step_table(target, chunk) for chunk, _, _ in parts]
    request = Request(
        target=target,
        manifest=manifest,
        what="steps",
        run=record.name,
        first_step=first,
        end_step=last + 1,
        form=form,
        rows=rows,
        source=source,
    )
    reads = [
        read for part, table in zip(parts, tables, strict=True) for read in planned_ranges(part[0], table, *part[1:])
    ]
    pull = Pull(request=request, reads=tuple(reads))
    if dry_run:
        return pull
    check_output(out, PROVENANCE_FILE, force=force)
    render = text_form(target, manifest, record, source) if form == "text" else None

    def batches() -> Iterator[BatchRows]:
        for batch in far_batches(target, parts, tables):
            yield batch
            if progress is not None:
                progress(batch.step + 1 - first, last + 1 - first, f"batch {batch.step}")

    with staged(out, request.identity(), needed=2 * pull.bytes) as staging:
        entries = _entries(parts, tables)
        _write_rows(batches(), form, staging.result, entries, parts, KeptRows(rows, source), render)
        write_provenance(pull, staging.result, entries=entries)
    return pull.done(out)


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
    batches: Iterator[BatchRows],
    form: RowForm,
    folder: Path,
    entries: list[StepEntry],
    parts: list[Part],
    kept: KeptRows | None = None,
    render: TextForm | None = None,
) -> None:
    kept = kept if kept is not None else KeptRows()
    first = next(batches).table
    tables = kept.of(chain([first], (batch.table for batch in batches)))
    rows = entries[-1].end_row - entries[0].first_row if kept.takes_all else None
    row_len = parts[0][0].row_len
    path = folder / FILE_NAMES[form]
    write_rows(tables, form, path, schema=first.schema, row_len=row_len, rows=rows, render=render)
    kept.check()


def _entries(parts: list[Part], tables: list[StepTable]) -> list[StepEntry]:
    return [
        table.entry(step) for (_, first, end), table in zip(parts, tables, strict=True) for step in range(first, end)
    ]
