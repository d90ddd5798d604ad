"""Rows of a release of ours as text, read by range as they are taken; and the batches that a selection names."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.kept_rows import KeptRows
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
from open360.release.release_tokenizer import tokenizer_of_own
from open360.release.remote_rows import read_batches, read_step_table
from open360.release.row_text import TextForm, separators
from open360.release.rows import BatchRows, StepTable
from open360.release.targets import Target
from open360.schema.manifest import Manifest, RunRecord
from open360.schema.serialization import load_spec


def shown_steps(
    target: Target,
    first: int,
    end: int,
    *,
    run: str | None = None,
    rows: tuple[int, int] | None = None,
    source: str | None = None,
    color: bool = False,
) -> Iterator[str]:
    """Batches `[first, end)` as text, each verified before it is given."""
    manifest = manifest_of(target)
    record = find_run(manifest, run)
    parts = chunks_of_steps(record, first, end)
    render = text_form(target, manifest, record, source, color=color)
    tables = [read_step_table(target, chunk) for chunk, _, _ in parts]
    kept = KeptRows(rows, source)
    for table in kept.of(batch.table for batch in far_batches(target, parts, tables)):
        yield from render(table)
    kept.check()


def steps_asked(
    target: Target,
    *,
    run: str | None = None,
    checkpoint: str | None = None,
    between: tuple[str, str] | None = None,
    rows: tuple[int, int] | None = None,
) -> tuple[str, int, int]:
    """The run and the batches `[first, end)` that one of these names."""
    manifest = manifest_of(target)
    if checkpoint is not None:
        record, point = find_checkpoint(manifest, checkpoint, run)
        return (record.name, *steps_of(record, point))
    if between is not None:
        record, first, end = steps_between(manifest, *between, run)
        return record.name, first, end
    record = find_run(manifest, run)
    return (record.name, *steps_of_rows(target, record, *(rows or (0, 0))))


def steps_of_rows(target: Target, record: RunRecord, first: int, end: int) -> tuple[int, int]:
    """Batches `[begin, stop)` that hold rows `[first, end)` of a run. Raises SelectionError."""
    chunks = sorted(record.chunks, key=lambda chunk: chunk.first_row)
    if not chunks or not chunks[0].first_row <= first < end <= chunks[-1].end_row:
        known = f"rows {chunks[0].first_row} to {chunks[-1].end_row - 1}" if chunks else "none"
        raise SelectionError(f"run '{record.name}' has no rows {first} to {end - 1} (expected: {known})")
    steps = [
        entry.step
        for row in (first, end - 1)
        for chunk in chunks
        if chunk.first_row <= row < chunk.end_row
        for entry in read_step_table(target, chunk).entries
        if entry.first_row <= row < entry.end_row
    ]
    return min(steps), max(steps) + 1


def text_form(
    target: Target, manifest: Manifest, record: RunRecord, source: str | None, *, color: bool = False
) -> TextForm:
    """How rows of a run are shown: by the tokenizer of its corpus."""
    spec = load_spec(target.spec_bytes(), target.spec_path)
    corpus = next((corpus for corpus in spec.corpora if corpus.name == record.corpus), None)
    if corpus is None:
        raise SelectionError(f"run '{record.name}' names no corpus, so its rows have no tokenizer; choose another --as")
    decoder = tokenizer_of_own(target, manifest, corpus.name)
    return TextForm(decoder=decoder, ends=separators(corpus, decoder), color=color, source=source)


def far_batches(target: Target, parts: list[Part], tables: list[StepTable]) -> Iterator[BatchRows]:
    """Batches of parts of chunks, in order, each verified."""
    for (chunk, begin, stop), table in zip(parts, tables, strict=True):
        yield from read_batches(target, chunk, table, begin, stop)
