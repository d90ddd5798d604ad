"""Pulling rows of a release that open360 did not make: by its order, from its files, in whatever form they have.

* A checkpoint at step *s* has seen batches 0 … *s* - 1; its data are the batches since the checkpoint before.
* Rows are read by range, or, where whole chunks are asked for, out of whole files that were compared with the listing.
* Where only the chunk of a segment is known, whole chunks are given, and the record says so.
* The output folder appears whole or not at all.

Every function raises SelectionError, UnresolvableOrderError (nobody can say which rows they are), TargetError,
IntegrityError, OrderError, ChunkFileError (the data are not what the release says), OutputError, OSError, HubError,
AddressError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa

from open360.release.chosen_files import (
    check_form,
    files_of_chunks,
    files_of_stored,
    whole_chunks,
    whole_file,
)
from open360.release.foreign_provenance import ForeignPull, doubts_about, facts_of_rows
from open360.release.foreign_rows import (
    BatchDigests,
    RowPiece,
    plan_rows,
    read_pieces,
    row_schema,
    tables_of,
)
from open360.release.foreign_selection import Chosen, Wanted, choose
from open360.release.foreign_target import ForeignTarget
from open360.release.formats.ranges import AddressRanges
from open360.release.formats.rows import RowBlock
from open360.release.order.file_rows import RowSpan
from open360.release.order.resolver import ChunkPart
from open360.release.order.spans import Span
from open360.release.provenance import PROVENANCE_FILE
from open360.release.pull_selection import SelectionError
from open360.release.read_plan import ReadPlan
from open360.release.release_tokenizer import tokenizer_of_foreign
from open360.release.row_files import FILE_NAMES, Form, write_rows
from open360.release.row_sources import TrainingRows
from open360.release.row_text import TextForm, separators
from open360.release.staging import check_output, move_file, staged
from open360.release.whole_files import FetchedWhole, WholeFile, fetch_whole

Progress = Callable[[int, int, str], None]
MAX_LABELS = 40
GROUP_IDS = 1 << 19  # in a row group of Parquet: what is written of it is in memory several times


@dataclass(frozen=True, kw_only=True)
class PreparedPull:
    """A pull of rows that was thought through: nothing of the data was read yet.

    `chunks` are given whole: where the order is known to the chunk only (`rows.resolver.exact` is false), or where
    whole chunks are asked for, whose files are then compared with the listing.
    """

    pull: ForeignPull
    rows: TrainingRows
    chosen: Chosen
    form: Form
    chunks: tuple[ChunkPart, ...] = ()
    labels: set[str] = field(default_factory=set)


def prepare_rows(
    target: ForeignTarget, wanted: Wanted, *, form: Form | None = None, indexes: Path | None = None
) -> PreparedPull:
    """What a pull of rows would read.

    Args:
        form: Parquet when None; the files themselves where the order is known to the chunk only.
        indexes: a folder of line indexes, besides those that lie beside the files.
    """
    chosen = choose(target.document.spec, wanted)
    rows = TrainingRows(target, chosen.run, indexes)
    exact, chunks = rows.resolver.exact, whole_chunks(rows, chosen)
    if form is None:
        form = "parquet" if exact else "native"
    check_form(rows, chosen, form)
    if chunks:
        whole = files_of_chunks(rows, chunks)
        plan = _plan_of_files(whole)
    else:
        plan = plan_rows(rows, chosen)
        whole = files_of_stored(rows, chosen, plan) if form == "native" else ()
        plan = _plan_of_files(whole) if whole else plan
    pull = ForeignPull(
        target=target,
        what="data",
        run=rows.run,
        chosen=chosen,
        checkpoint=chosen.checkpoint,
        form=form,
        plan=plan,
        whole=whole,
        notes=tuple(_notes(rows, chosen, chunks)),
        facts=facts_of_rows(rows),
    )
    return PreparedPull(pull=pull, rows=rows, chosen=chosen, form=form, chunks=chunks)


def carry_out(
    prepared: PreparedPull, out: Path, *, force: bool = False, progress: Progress | None = None
) -> ForeignPull:
    """Read the rows, and write them into the folder `out`."""
    pull, rows, chosen = prepared.pull, prepared.rows, prepared.chosen
    check_output(out, PROVENANCE_FILE, force=force)
    digests = BatchDigests(rows)
    with staged(out, pull.identity(), needed=2 * pull.bytes) as staging:
        fetched = _fetch(prepared, staging.fetched, progress)
        if prepared.form == "native":
            for one in fetched:
                move_file(one.path, staging.result / one.file.name)
        else:
            tables, schema = _tables(prepared, digests, progress)
            path = staging.result / FILE_NAMES[prepared.form]
            render = text_form(rows, chosen, color=False) if prepared.form == "text" else None
            count = chosen.rows if rows.resolver.exact and chosen.source is None else None
            row_len = rows.reader.row_len
            found = write_rows(
                tables,
                prepared.form,
                path,
                schema=schema,
                row_len=row_len,
                rows=count,
                render=render,
                group_rows=max(GROUP_IDS // row_len, 1),
            )
            _check_source(prepared, found)
        verified = [f"{one.file.name}: {one.proof}" for one in fetched if one.proof is not None]
        verified += [f"batch {step}: the digest that the spec states" for step in digests.proved]
        unverified = [f"{one.file.name}: its size alone" for one in fetched if one.proof is None]
        unverified += doubts_about(rows, pull.plan, ranges=not fetched)
        pull.write_provenance(
            staging.result, fetched=fetched, batches=digests.found, verified=verified, unverified=unverified
        )
    return pull.done(out, unverified)


def shown(prepared: PreparedPull, *, color: bool) -> Iterator[str]:
    """The rows as text, read by range as they are taken. A batch is given when all of it has come and was compared."""
    render = text_form(prepared.rows, prepared.chosen, color=color)
    count = 0
    tables, _ = _tables(prepared, BatchDigests(prepared.rows), None)
    for table in tables:
        count += table.num_rows
        yield from render(table)
    _check_source(prepared, count)


def text_form(rows: TrainingRows, chosen: Chosen, *, color: bool) -> TextForm:
    """How rows of a run are shown: by the tokenizer of its corpus."""
    decoder = tokenizer_of_foreign(rows.target, rows.run, rows.corpus)
    return TextForm(decoder=decoder, ends=separators(rows.corpus, decoder), color=color, source=chosen.source)


def _plan_of_files(files: Iterable[WholeFile]) -> ReadPlan:
    plan = ReadPlan()
    for file in files:
        plan.add(Span(file.name, 0, file.bytes), estimated=False)
    return plan


def _notes(rows: TrainingRows, chosen: Chosen, chunks: Sequence[ChunkPart]) -> Iterator[str]:
    if not rows.resolver.exact:
        yield f"whole chunks in the order of their files: inside a chunk, {rows.resolver.reason}"
        used, files = chunks[0].rows_used, rows.corpus.files
        if files is not None and files.rows is not None and files.rows > used:
            yield f"{used:,} of the {files.rows:,} rows of each chunk were trained on; which ones is not known"
        if chosen.rows is not None and used * len(chunks) > chosen.rows:
            yield f"the segment is {chosen.rows:,} rows, a part of these {used * len(chunks):,}"
    for span in rows.run.skipped:
        if span.first < chosen.end_step and span.last >= chosen.first_step:
            yield f"batches {span.first} to {span.last} were not learned from: {span.reason}"
    for masking in rows.run.masking:
        yield f"some rows or ids were left out of the loss ({masking.kind})"
    if rows.target.document.is_guess:
        yield "the spec is a guess; give a better one with --spec"


def _fetch(prepared: PreparedPull, folder: Path, progress: Progress | None) -> list[FetchedWhole]:
    """The whole files, where such are wanted; rows are then read from them."""
    whole, rows = prepared.pull.whole, prepared.rows
    if not whole:
        return []
    fetched = fetch_whole(rows.part, AddressRanges(rows.addresses), whole, folder, progress)
    if prepared.form != "native":
        names = {whole_file(rows, part.file).name: part.file for part in prepared.chunks}
        rows.read_here({names[one.file.name]: one.path for one in fetched})
    return fetched


def _tables(
    prepared: PreparedPull, digests: BatchDigests, progress: Progress | None
) -> tuple[Iterator[pa.Table], pa.Schema]:
    rows, chosen = prepared.rows, prepared.chosen
    schema = row_schema(rows)
    if not rows.resolver.exact:
        return _chunk_tables(prepared), _chunk_schema(schema)
    first, total = chosen.first_step, chosen.end_step - chosen.first_step

    def found() -> Iterator[pa.Table]:
        for piece in digests.watch(read_pieces(rows, chosen)):
            _remember(prepared.labels, piece.sources)
            step = piece.step
            yield from tables_of([piece], schema, chosen.source)
            del piece
            if progress is not None:
                progress(step + 1 - first, total, f"batch {step}")

    return found(), schema


def _chunk_schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([("chunk", pa.int64()), *(field for field in schema if field.name != "step")])


def _chunk_tables(prepared: PreparedPull) -> Iterator[pa.Table]:
    """Rows of whole chunks in the order of their files; `row` is the place in the file."""
    rows, files = prepared.rows, prepared.rows.corpus.files
    schema = row_schema(rows)
    for part in prepared.chunks:
        count = files.rows if files is not None and files.rows is not None else part.rows_used
        row = 0
        for block in rows.reader.blocks([RowSpan(part.file, 0, count)]):
            _remember(prepared.labels, block.sources)
            for table in tables_of([_piece(row, block)], schema, prepared.chosen.source):
                chunk = pa.array([part.number] * table.num_rows, pa.int64())
                yield table.drop_columns(["step"]).add_column(0, "chunk", chunk)
            row += len(block.ids)


def _piece(row: int, block: RowBlock) -> RowPiece:
    return RowPiece(step=0, first_row=row, ids=block.ids, sources=block.sources, is_last=False, is_whole=False)


def _remember(labels: set[str], sources: tuple[str | None, ...] | None) -> None:
    if sources is not None and len(labels) < MAX_LABELS:
        labels.update(islice((label for label in set(sources) if label is not None), MAX_LABELS))


def _check_source(prepared: PreparedPull, rows: int) -> None:
    source = prepared.chosen.source
    if source is not None and not rows:
        known = ", ".join(sorted(prepared.labels)) or "none"
        raise SelectionError(f"none of these rows is of source '{source}' (they are of: {known})")
