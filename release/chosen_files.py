"""Which files of a foreign release are given whole, and whether the chosen rows may be had in a form at all."""

from __future__ import annotations

from collections.abc import Sequence

from open360.release.foreign_rows import spans_of
from open360.release.foreign_selection import Chosen
from open360.release.order.resolver import ChunkPart, UnresolvableOrderError
from open360.release.pull_selection import SelectionError
from open360.release.read_plan import ReadPlan
from open360.release.row_files import Form
from open360.release.row_sources import TrainingRows
from open360.release.targets import check_path
from open360.release.whole_files import WholeFile, listed_file
from open360.schema.order import ChunkOrder, MaterializedOrder


def whole_chunks(rows: TrainingRows, chosen: Chosen) -> tuple[ChunkPart, ...]:
    """The chunks that are given whole; none where rows are read by range."""
    if not isinstance(rows.run.order, ChunkOrder):
        return ()
    if not rows.resolver.exact:
        if not chosen.is_segment:
            reason = f"inside a chunk, {rows.resolver.reason}"
            raise UnresolvableOrderError(rows.run.name, reason, "ask for whole chunks with --checkpoint NAME")
        return tuple(rows.resolver.chunks(chosen.first_step, chosen.end_step))
    if chosen.skipped_rows:
        return ()
    found = tuple(rows.resolver.chunks(chosen.first_step, chosen.end_step))
    return found if sum(part.rows_used for part in found) == chosen.rows else ()


def check_form(rows: TrainingRows, chosen: Chosen, form: Form) -> None:
    """Raise SelectionError when the rows cannot be had in that form, or not by source."""
    source = rows.corpus.row.source if rows.corpus.row is not None else None
    if chosen.source is not None and source is None:
        raise SelectionError(
            f"rows of corpus '{rows.corpus.name}' do not say which source they are from (no 'source' in their 'row'); "
            "leave out --source"
        )
    if form != "native":
        return
    if chosen.source is not None:
        raise SelectionError("native gives whole files, with the rows of all sources; choose another --as")
    if not isinstance(rows.run.order, ChunkOrder | MaterializedOrder):
        kind = rows.run.order.kind
        raise SelectionError(
            f"native gives whole files, but an order of kind '{kind}' picks rows all over them; choose another --as"
        )
    if isinstance(rows.run.order, ChunkOrder) and not whole_chunks(rows, chosen):
        raise SelectionError("native gives whole chunks, and these rows are a part of one; choose another --as")


def files_of_chunks(rows: TrainingRows, chunks: Sequence[ChunkPart]) -> tuple[WholeFile, ...]:
    """The files of chunks, each once."""
    return tuple(whole_file(rows, name) for name in dict.fromkeys(part.file for part in chunks))


def files_of_stored(rows: TrainingRows, chosen: Chosen, plan: ReadPlan) -> tuple[WholeFile, ...]:
    """The files of rows stored in the order of training, all of which are wanted. Raises SelectionError."""
    if rows.resolver.layout == "files":
        for span in spans_of(rows, chosen):
            there = rows.reader.rows_of(span.file)
            if span.end_row - span.first_row < there:
                raise _not_whole(f"{span.end_row - span.first_row:,} of the {there:,} rows of {span.file}")
        return tuple(whole_file(rows, name) for name in plan.files)
    for file in plan.files.values():
        size = rows.identity(file.path).bytes
        tail = rows.reader.row_len * 4 if file.path == rows.files.names[-1] else 0  # what fills no row at the end
        if file.bytes < size - tail:
            raise _not_whole(f"{file.bytes:,} of the {size:,} bytes of {file.path}")
    return tuple(whole_file(rows, name) for name in plan.files)


def _not_whole(what: str) -> SelectionError:
    return SelectionError(f"native gives whole files, and these rows are {what}; choose another --as")


def whole_file(rows: TrainingRows, name: str) -> WholeFile:
    """A data file as a whole. Raises MissingFileError, UnsafePathError, and what asking for its size raises."""
    file = rows.data.get(name)
    if file is not None and file.path is not None:
        return listed_file(rows.part, file.path, name)
    address = file.url if file is not None and file.url is not None else name
    inside = check_path(rows.target.label, name.split("://", 1)[-1].lstrip("/"))
    return WholeFile(name=inside, path=address, bytes=rows.identity(name).bytes)
