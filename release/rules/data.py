"""Rules about the rows: chunks that join, hold what they claim, and are what the trainer saw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from open360.release.corpus.id_tally import IdTally
from open360.release.evidence.data_scan import special_ids as declared_special_ids
from open360.release.evidence.once import once
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.rows import ChunkFileError, ChunkProblem, StepTable, verify_chunk
from open360.release.rules.rule import Rule
from open360.release.rules.traces import read_trace
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from open360.schema.layout import corpus_folder
from open360.schema.manifest import ChunkRecord
from open360.schema.run import Run

MAX_TABLE_BYTES = 256 << 20
MAX_SHOWN = 5
PACK_AGAIN = "pack the run again ('dvc repro'), or fetch the chunk again"


class ChunkRanges(Rule):
    """The chunks of a run do not join.

    ## What it does
    Checks in the manifest that chunks follow one another without gap or overlap, in steps and in rows, that their rows
    are those of the batch schedule, that `row_len` is the declared one, and that the last step of the run is covered.

    ## Why is this bad?
    Rows of some step are in no chunk or in two, and a step cannot be mapped to its rows.

    ## Example
    `chunk_003` ends at row 704, `chunk_004` begins at row 705.

    ## Remedy
    Pack the run again and build the manifest again.

    ## Seen in practice
    Looking up a batch of OLMo failed with an index beyond the data set, and returned less than half of another batch:
    the order and the sizes of the files did not belong together.
    """

    code = "DAT001"
    name = "chunk-ranges"
    part = Part.CHUNK

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each border that does not hold."""
        for run, record in release.built_runs():
            step, row = 0, 0
            for chunk in record.chunks:
                for field, message in _wrong_ranges(release, run, chunk, step, row):
                    yield self.finding(release.place_of(record, chunk, field), chunk.name, message, PACK_AGAIN)
                step, row = chunk.end_step, chunk.end_row
            if record.chunks and run.steps is not None and step != run.steps:
                last = record.chunks[-1]
                message = f"the chunks end at step {step}, the run at step {run.steps}"
                yield self.finding(release.place_of(record, last, "end_step"), last.name, message, PACK_AGAIN)


def _wrong_ranges(release: ReleaseView, run: Run, chunk: ChunkRecord, step: int, row: int) -> Iterator[tuple[str, str]]:
    if chunk.first_step != step:
        yield "first_step", f"it begins with step {chunk.first_step}, expected {step}"
    if chunk.first_row != row:
        yield "first_row", f"it begins with row {chunk.first_row}, expected {row}"
    begin, end = release.rows_at(run, chunk.first_step), release.rows_at(run, chunk.end_step)
    if begin is not None and end is not None and chunk.rows != end - begin:
        yield "end_row", f"it holds {chunk.rows} rows, its steps take {end - begin}"
    corpus = release.spec.corpus_of(run)
    if corpus is not None and corpus.row is not None and chunk.row_len != corpus.row.row_len:
        yield "row_len", f"its rows have {chunk.row_len} ids, declared are {corpus.row.row_len}"


class ChunkRows(Rule):
    """A chunk does not hold the rows that the manifest claims.

    ## What it does
    Decodes every chunk: rows and steps without holes, rows of the right length, documents that cover each row, digests
    of byte ranges, batches and of all ids.

    ## Why is this bad?
    What a reader takes for the data of a step is something else.

    ## Example
    A chunk that was written again with another tokenizer, with the manifest updated but for the digest of its rows.

    ## Remedy
    Pack the run again, or fetch the chunk again.

    ## Seen in practice
    A viewer of Pythia's data showed wrong rows for two years, since nobody could compare them with anything. An index
    file of one of its seed runs consists of zeros for 92 percent.
    """

    code = "DAT002"
    name = "chunk-rows"
    level = EvidenceLevel.LOADED
    part = Part.CHUNK

    def unseen(self, release: ReleaseView) -> int:
        """Chunks of which the file or the step table is not intact."""
        return self.claims(release) - len(looks(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each problem of a chunk."""
        for look in looks(release):
            problems = [problem for problem in look.problems if problem.code != "ids"]
            for problem in problems[:MAX_SHOWN]:
                yield self.finding(look.chunk.file.path, look.chunk.name, str(problem), PACK_AGAIN)


@dataclass(frozen=True, kw_only=True)
class ChunkLook:
    """What one pass over a chunk of a release of open360 found."""

    run: Run
    chunk: ChunkRecord
    problems: list[ChunkProblem]
    tally: IdTally


@once
def looks(release: ReleaseView) -> list[ChunkLook]:
    """Every chunk that is there and intact, read once for all rules. The manifest has to be readable."""
    return list(_look(release))


def _look(release: ReleaseView) -> Iterator[ChunkLook]:
    watched = {corpus.name: special_ids(release, corpus) for corpus in release.spec.corpora}
    for run, record in release.built_runs():
        for chunk in record.chunks:
            paths = (chunk.file.path, chunk.step_table.path)
            if not all(release.intact(path) for path in paths):
                continue
            tally = IdTally(watched.get(run.corpus or "", {}).values())
            with release.local_files(*paths) as (file, table):
                problems = verify_chunk(file, table, chunk, vocabulary=vocabulary_of(release, run), tally=tally)
            release.count_chunk(chunk)
            yield ChunkLook(run=run, chunk=chunk, problems=problems, tally=tally)


def special_ids(release: ReleaseView, corpus: Corpus) -> dict[str, int]:
    """Ids that stand between documents, by what they are called: as the tokenizer of the release has them."""
    separator = corpus.row.separator if corpus.row is not None else None
    if separator is None:
        return declared_special_ids(corpus)
    tokenizer = release.document(f"{corpus_folder(corpus.name)}/tokenizer/tokenizer.json")
    added = tokenizer.get("added_tokens") if isinstance(tokenizer, dict) else None
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict) and token.get("content") == separator and type(token.get("id")) is int:
            return {f"separator {separator}": token["id"]}
    return declared_special_ids(corpus)


def vocabulary_of(release: ReleaseView, run: Run) -> int | None:
    """Number of ids that a run's model knows; without its architecture that of its tokenizer."""
    size = run.architecture.get("vocab_size")
    if isinstance(size, int) and size > 0:
        return size
    corpus = release.spec.corpus_of(run)
    return corpus.tokenizer.vocabulary if corpus is not None and corpus.tokenizer is not None else None


class TrainedOnOtherRows(Rule):
    """The trainer saw other rows than the chunk holds.

    ## What it does
    Compares the digest of every batch in the trace with that in the step table of the chunk.

    ## Why is this bad?
    The published data is not what the model was trained on: every result on memorization or contamination is wrong.

    ## Example
    The corpus was packed again after the training.

    ## Remedy
    Publish the chunks that were trained on, or train again.

    ## Seen in practice
    A preshuffled copy of the Pile holds no separator tokens at all, though the documents say it does; which of the
    copies the models saw could not be shown by anything published.
    """

    code = "DAT003"
    name = "trained-on-other-rows"
    part = Part.CHECKPOINT
    level = EvidenceLevel.LOADED

    def claims(self, release: ReleaseView) -> int:
        """Checkpoints with a trace and a chunk."""
        return len(_compared(release))

    def unseen(self, release: ReleaseView) -> int:
        """Those of which not every batch could be compared."""
        return sum(not one.wrong and not one.whole for one in _compared(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint, with its first step that differs."""
        for one in _compared(release):
            if one.wrong:
                message = f"{len(one.wrong)} batches, the first at step {one.wrong[0]}, are not those of '{one.chunk}'"
                fix = "publish the chunk that was trained on, or train the segment again"
                yield self.finding(one.trace, one.checkpoint, message, fix)


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """A trace beside its chunk: steps whose batches differ; `whole` when there was a digest for every line."""

    checkpoint: str
    trace: str
    chunk: str
    wrong: list[int]
    whole: bool


@once
def _compared(release: ReleaseView) -> list[_Comparison]:
    """Every checkpoint with a trace and a chunk."""
    return list(_compare(release))


def _compare(release: ReleaseView) -> Iterator[_Comparison]:
    for run in release.manifest.runs:
        chunks = {chunk.name: chunk for chunk in run.chunks}
        for checkpoint in run.checkpoints:
            trace, chunk = checkpoint.trace, chunks.get(checkpoint.chunk or "")
            if trace is None or chunk is None:
                continue
            stated, seen = stated_digests(release, chunk), read_trace(release, trace.path)
            yield _Comparison(
                checkpoint=checkpoint.name,
                trace=trace.path,
                chunk=chunk.name,
                wrong=[line.step for line in seen if stated.get(line.step, line.batch_sha256) != line.batch_sha256],
                whole=bool(seen) and all(line.step in stated for line in seen),
            )


def stated_digests(release: ReleaseView, chunk: ChunkRecord) -> dict[int, str]:
    """Digest of the ids of each step by the step table; nothing when the table is not intact."""
    path = chunk.step_table.path
    data = release.read(path, MAX_TABLE_BYTES) if release.intact(path) else None
    if data is None:
        return {}
    try:
        table = StepTable.from_bytes(data, name=path)
    except ChunkFileError:
        return {}  # ChunkRows reports it
    return {entry.step: entry.ids_sha256 for entry in table.entries}
