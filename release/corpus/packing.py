"""Packing: documents to the chunks of a run, in training order that is fixed here and nowhere else.

1. Every document is encoded once, in the order of the file, by several threads; its ids go to a scratch file.
2. Every copy of a document (one for each epoch) has the key sha256(seed, digest of the document, epoch). Copies are
   sorted by key, their ids joined with the separator after each document, and cut into rows without overlap.
3. Exactly the rows that the run trains on are written, one chunk for each segment; the rest is counted.

The result depends on the seed and the documents alone: not on their order in the file, on threads or on the engine.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open360.release.corpus.chunk_file import ID_TYPES, Batch, ChunkFacts, Group, group_batches, write_chunk
from open360.release.corpus.document_file import Progress, parse_document, read_lines
from open360.release.corpus.encoder import Encoder, EngineMismatchError
from open360.release.corpus.order_file import OrderFile
from open360.release.corpus.row_stream import RowStream
from open360.release.corpus.tokenizer import separator_id
from open360.schema.atomic import replacing_folder, write_bytes
from open360.schema.corpus import Corpus, RowFormat
from open360.schema.errors import Open360Error
from open360.schema.layout import chunk_name, corpus_folder
from open360.schema.order import MaterializedOrder
from open360.schema.run import Run
from open360.schema.schedule import Segment, rows_at, segments
from open360.schema.serialization import canonical_json
from open360.schema.spec import ReleaseSpec

SCRATCH = ".scratch"


class PackingError(Open360Error):
    """A run cannot be packed; `found` and `needed` count ids where there are too few of them."""

    def __init__(self, run: str, problem: str, next_step: str, *, found: int = 0, needed: int = 0) -> None:
        self.run, self.found, self.needed = run, found, needed
        super().__init__(f"run '{run}': {problem}; {next_step}")


@dataclass(kw_only=True)
class SourceTokens:
    """What a source gives in one epoch: documents and ids, separators included."""

    documents: int = 0
    tokens: int = 0
    epochs: int = 1


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """What was packed. Tokens count ids with separators: of all epochs, and of them those that fill no row."""

    rows: int
    row_len: int
    tokens: int
    tokens_left_over: int
    sources: dict[str, SourceTokens]
    chunks: dict[str, ChunkFacts]
    engine: str


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What packing needs from the spec."""

    corpus: Corpus
    row: RowFormat
    seed: int
    segments: list[Segment]
    rows: int


def pack_run(
    spec: ReleaseSpec,
    run: Run,
    root: Path,
    out_chunks: Path,
    out_steps: Path,
    *,
    workers: int = 2,
    engine: str | None = None,
    progress: Progress | None = None,
) -> PackResult:
    """Write all chunks and step tables of a run, and `packing.json` beside their folders.

    Args:
        root: the release folder, with documents and tokenizer of the run's corpus.
        workers: threads that encode.
        engine: `tokenizers` to do without the faster engine.
        progress: called with bytes of the documents' file read, and all of them.
    Raises:
        PackingError: the spec does not allow it, or the corpus has too few ids.
        DocumentError, EncodingError: the inputs are not usable.
    """
    plan = _plan(spec, run)
    folder = root / corpus_folder(plan.corpus.name)
    encoder = Encoder(folder / "tokenizer", "tokenizers" if engine == "tokenizers" else None)
    try:
        return _pack(
            plan, run, folder / "documents.jsonl.zst", encoder, root, (out_chunks, out_steps), workers, progress
        )
    except EngineMismatchError:
        encoder = Encoder(folder / "tokenizer", "tokenizers")
        return _pack(
            plan, run, folder / "documents.jsonl.zst", encoder, root, (out_chunks, out_steps), workers, progress
        )


def _plan(spec: ReleaseSpec, run: Run) -> _Plan:
    corpus = spec.corpus_of(run)
    if corpus is None or corpus.row is None or corpus.seed is None or run.steps is None:
        raise PackingError(run.name, "expected a corpus with 'row' and 'seed', and 'steps'", "add them to the spec")
    row, steps, parts = corpus.row, run.steps, segments(run, corpus)
    rows = rows_at(run, steps)
    if row.dtype not in ID_TYPES or row.format != "parquet" or row.overlap:
        raise PackingError(
            run.name,
            f"expected rows as parquet of uint16 or uint32 without overlap, found {row.format} of {row.dtype}",
            "correct 'row' of the corpus",
        )
    if not isinstance(run.order, MaterializedOrder) or run.order.first_row:
        raise PackingError(run.name, "expected the order 'materialized' from row 0", "correct 'order'")
    weighted = [source.name for source in corpus.sources if source.weight is not None]
    if weighted:
        raise PackingError(run.name, f"source '{weighted[0]}' has a 'weight'", "state its share as 'epochs'")
    if not parts or parts[-1].end_step != steps:
        raise PackingError(
            run.name,
            f"expected a checkpoint at the last step {steps}, found {parts[-1].end_step if parts else 'none'}",
            "add 'final: true' to its series",
        )
    return _Plan(corpus=corpus, row=row, seed=corpus.seed, segments=parts, rows=rows)


def _pack(
    plan: _Plan,
    run: Run,
    documents: Path,
    encoder: Encoder,
    root: Path,
    out: tuple[Path, Path],
    workers: int,
    progress: Progress | None,
) -> PackResult:
    if encoder.vocabulary > np.iinfo(plan.row.dtype).max + 1:
        raise PackingError(
            run.name, f"ids up to {encoder.vocabulary - 1} do not fit {plan.row.dtype}", "use uint32 in 'row'"
        )
    (root / SCRATCH).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"pack-{run.name}-", dir=root / SCRATCH) as scratch:
        order = OrderFile(Path(scratch), plan.seed, plan.row.dtype)
        try:
            sources = _encode_all(plan.corpus, documents, encoder, order, workers, progress)
            tokens = sum(source.tokens * source.epochs for source in sources.values())
            needed = plan.rows * plan.row.row_len
            if tokens < needed:
                raise PackingError(
                    run.name,
                    f"expected at least {needed} ids for {plan.rows} rows of {plan.row.row_len}, "
                    f"found {tokens} in corpus '{plan.corpus.name}'",
                    "add sources or epochs, or lower 'steps' or 'batch'",
                    found=tokens,
                    needed=needed,
                )
            stream = RowStream(order.ordered(), [source.name for source in plan.corpus.sources], plan.row)
            with replacing_folder(out[0]) as chunks, replacing_folder(out[1]) as steps:
                facts = {
                    chunk_name(segment.index): write_chunk(
                        chunks / f"{chunk_name(segment.index)}.parquet",
                        steps / f"{chunk_name(segment.index)}.parquet",
                        _groups(stream, run, segment, plan.row),
                        plan.row.dtype,
                    )
                    for segment in plan.segments
                }
        finally:
            order.close()
    result = PackResult(
        rows=plan.rows,
        row_len=plan.row.row_len,
        tokens=tokens,
        tokens_left_over=tokens - needed,
        sources=sources,
        chunks=facts,
        engine=encoder.engine,
    )
    # The engine is a matter of speed: it changes no id, so it is no part of what was built.
    content = {key: value for key, value in asdict(result).items() if key != "engine"}
    content["chunks"] = {name: asdict(chunk) for name, chunk in facts.items()}
    write_bytes(out[0].parent / "packing.json", canonical_json(content))
    return result


def _groups(stream: RowStream, run: Run, segment: Segment, row: RowFormat) -> Iterator[Group]:
    for batches in group_batches(_batches(run, segment), row.row_len, np.dtype(row.dtype).itemsize):
        yield Group(batches=batches, table=stream.take(batches))


def _batches(run: Run, segment: Segment) -> Iterator[Batch]:
    assert run.batch is not None, "segments need a batch"  # noqa: S101  for the type checker
    first = segment.first_row
    for step in range(segment.first_step, segment.end_step):
        end = first + run.batch.at(step)
        yield Batch(step=step, first_row=first, end_row=end)
        first = end


_Encoded = list[tuple[str, str, str, NDArray[Any]]]


def _encode_all(
    corpus: Corpus, documents: Path, encoder: Encoder, order: OrderFile, workers: int, progress: Progress | None
) -> dict[str, SourceTokens]:
    """Encode every document into `order`; the sum of what each source gave."""
    separator = np.array([separator_id(corpus, encoder)], dtype=np.uint32)
    numbers = {source.name: index for index, source in enumerate(corpus.sources)}
    found = {source.name: SourceTokens(epochs=source.epochs) for source in corpus.sources}

    def encode(lines: list[bytes]) -> _Encoded:
        batch = [parse_document(line, documents.name) for line in lines]
        ids = encoder.encode_batch([document.text for document in batch])
        return [(d.source, d.id, d.sha256, i) for d, i in zip(batch, ids, strict=True)]

    for encoded in _in_order(encode, read_lines(documents, progress=progress), workers):
        for source, name, sha256, ids in encoded:
            if source not in found:
                raise PackingError(corpus.name, f"document '{name}' is of no source of the spec", "build the documents")
            here = found[source]
            order.add(numbers[source], name, sha256, np.concatenate((ids, separator)), here.epochs)
            here.documents += 1
            here.tokens += len(ids) + 1
    return found


def _in_order(
    work: Callable[[list[bytes]], _Encoded], batches: Iterable[list[bytes]], workers: int
) -> Iterator[_Encoded]:
    """Results of `work` in the order of `batches`, with few batches in memory at a time."""
    waiting: deque[Future[_Encoded]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
