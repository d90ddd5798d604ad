"""From a run's declared order to its resolver."""

from __future__ import annotations

from collections.abc import Sequence

from open360.release.order.file_rows import FileRows
from open360.release.order.order_inputs import (
    ID_BYTES,
    OrderInputs,
    SizedFile,
    declared_sizes,
    hopeless,
    is_stream,
    row_bytes,
)
from open360.release.order.positions import Positions
from open360.release.order.resolver import (
    ChunkResolver,
    Layout,
    Leg,
    Resolver,
    RowResolver,
    UnknownResolver,
    UnresolvableOrderError,
)
from open360.release.order.row_orders import (
    MAX_ROWS,
    ChunkedOrder,
    IndexedOrder,
    RowOrder,
    ShuffledOrder,
    StoredOrder,
)
from open360.release.order.sample_maps import SampleMaps
from open360.release.order.spans import OrderError
from open360.schema.corpus import Corpus, RowFormat
from open360.schema.order import ChunkOrder, FunctionOrder, MaterializedOrder, PermutationFileOrder, UnknownOrder
from open360.schema.run import Run

ASK = "hand in what 'needs' asks for"


def resolver_of(run: Run, corpus: Corpus | None, inputs: OrderInputs | None = None) -> Resolver:
    """The resolver of a run's batches.

    Args:
        inputs: what `needs(run, corpus)` asks for; nothing where the spec says all.
    Raises:
        UnresolvableOrderError: something that is needed was not handed in.
        OrderError: what was handed in contradicts the spec or itself.
    """
    inputs = inputs if inputs is not None else OrderInputs()
    reason = hopeless(run, corpus)
    if reason is not None or corpus is None:
        return UnknownResolver(run, reason or "no corpus is declared")
    if isinstance(run.order, ChunkOrder):
        return _by_chunks(run, run.order, corpus, inputs)
    assert corpus.row is not None  # noqa: S101 (or it were hopeless)
    if isinstance(run.order, MaterializedOrder):
        return _as_stored(run, run.order, corpus, corpus.row, inputs)
    if isinstance(run.order, FunctionOrder):
        return _shuffled(run, run.order, corpus, corpus.row, inputs)
    assert isinstance(run.order, PermutationFileOrder)  # noqa: S101
    if run.order.format == "neox-index-maps":
        return _of_samples(run, run.order, corpus.row, inputs)
    return _indexed(run, run.order, corpus, corpus.row, inputs)


def _positions(run: Run, *, first: int = 0, epoch_rows: int | None = None) -> Positions:
    assert run.batch is not None  # noqa: S101 (or it were hopeless)
    return Positions(run.batch, steps=run.steps, first=first, epoch_rows=epoch_rows)


def _as_stored(run: Run, order: MaterializedOrder, corpus: Corpus, row: RowFormat, inputs: OrderInputs) -> Resolver:
    if is_stream(corpus, run):
        files = FileRows([(_stream_name(corpus), _rows_of_stream(run, corpus, row, inputs))])
    else:
        files = FileRows(_rows_of_files(run, corpus, row, inputs))
    legs = [Leg(first=0, end=None, order=StoredOrder(files.rows))]
    layout: Layout = "stream" if is_stream(corpus, run) else "files"
    return RowResolver(run, positions=_positions(run, first=order.first_row), legs=legs, files=files, layout=layout)


def _stream_name(corpus: Corpus) -> str:
    """What a stream of files is called in spans: the pattern of its files."""
    named = corpus.files.pattern if corpus.files is not None else None
    return named or corpus.name


def _rows_of_stream(run: Run, corpus: Corpus, row: RowFormat, inputs: OrderInputs) -> int:
    total = None
    if inputs.files:
        sizes = [None if file.bytes is None else file.bytes - file.begin for file in inputs.files]
        total = None if None in sizes else sum(size for size in sizes if size is not None)
    elif corpus.files is not None:
        total = corpus.files.total_bytes
        if total is None and corpus.files.total_rows is not None:
            return corpus.files.total_rows
    if total is None or row.dtype not in ID_BYTES:
        raise UnresolvableOrderError(run.name, f"the sizes of the files of corpus '{corpus.name}' are not known", ASK)
    return max(total // ID_BYTES[row.dtype] - row.overlap, 0) // (row.row_len - row.overlap)


def _rows_of_files(
    run: Run, corpus: Corpus, row: RowFormat, inputs: OrderInputs, *, together: int = 1
) -> list[tuple[str, int]]:
    """The files with the rows that each adds to the order: whole groups of `together` rows, its tail is dropped."""
    files = inputs.files or (declared_sizes(corpus.files) if corpus.files is not None else None)
    if not files:
        raise UnresolvableOrderError(run.name, f"the files of corpus '{corpus.name}' are not known", ASK)
    return [(file.path, _rows_of_file(run, row, file) // together * together) for file in files]


def _rows_of_file(run: Run, row: RowFormat, file: SizedFile) -> int:
    if file.rows is not None:
        return file.rows
    size = row_bytes(row)
    if file.bytes is None or size is None:
        raise UnresolvableOrderError(run.name, f"how many rows '{file.path}' holds is not known", ASK)
    return max(file.bytes - file.begin, 0) // size


def _shuffled(run: Run, order: FunctionOrder, corpus: Corpus, row: RowFormat, inputs: OrderInputs) -> Resolver:
    files = FileRows(_rows_of_files(run, corpus, row, inputs, together=order.chunk_rows))
    if files.rows > MAX_ROWS:
        raise OrderError(f"the files of corpus '{corpus.name}'", f"{files.rows} rows, at most {MAX_ROWS} are shuffled")
    if order.first_row >= max(files.rows, 1):
        raise OrderError(f"the order of run '{run.name}'", f"row {order.first_row} of an epoch of {files.rows}")

    def with_seed(seed: int) -> RowOrder:
        return ShuffledOrder(
            stored=files.rows,
            seed=seed,
            epoch_base=order.epoch_base,
            group=order.chunk_rows,
            shuffle=inputs.shuffle,
        )

    seed = order.seed if order.seed is not None else run.seed
    assert seed is not None  # noqa: S101 (or it were hopeless)
    legs = [Leg(first=0, end=None, order=with_seed(seed))]
    for first, new in _reseeded(run, seed):
        legs = _cut(legs, first)
        if new is None:
            reason = "the run was restarted from before a change of seed, and with which seed is not declared"
            legs.append(Leg(first=first, end=None, order=None, reason=reason))
        else:
            legs.append(Leg(first=first, end=None, order=with_seed(new)))
    positions = _positions(run, first=order.first_row, epoch_rows=files.rows)
    return RowResolver(run, positions=positions, legs=legs, files=files)


def _reseeded(run: Run, seed: int) -> list[tuple[int, int | None]]:
    """From which step on a restart changed the seed, to which one; None where that is not declared.

    A restart that keeps its seed goes on with the same order, so that it changes nothing.
    """
    found: list[tuple[int, int | None]] = []
    current, since = seed, 0
    for restart in sorted(run.restarts, key=lambda restart: restart.at):
        if restart.seed is None and restart.restored < since:
            found.append((restart.restored, None))
            since = restart.restored
        elif restart.seed is not None and (restart.seed != current or restart.restored < since):
            found.append((restart.restored, restart.seed))
            current, since = restart.seed, restart.restored
    return found


def _cut(legs: Sequence[Leg], end: int) -> list[Leg]:
    """The legs up to a step."""
    return [
        Leg(first=leg.first, end=end if leg.end is None else min(leg.end, end), order=leg.order, reason=leg.reason)
        for leg in legs
        if leg.first < end
    ]


def _indexed(run: Run, order: PermutationFileOrder, corpus: Corpus, row: RowFormat, inputs: OrderInputs) -> Resolver:
    files = FileRows(_rows_of_files(run, corpus, row, inputs))
    name = order.url or order.path or "the index file"
    if not inputs.indices:
        raise UnresolvableOrderError(run.name, f"'{name}' was not read", ASK)
    indices = IndexedOrder(name, inputs.indices, stored=files.rows)
    if order.entries is not None and indices.rows != order.entries:
        raise OrderError(name, f"{order.entries} entries are declared, it has {indices.rows}")
    legs = [Leg(first=0, end=None, order=indices)]
    for first, seed in _reseeded(run, order.seed if order.seed is not None else 0):
        if order.seed is not None:
            legs = _cut(legs, first)
            reason = f"a restart changed the seed to {seed}, which the stored order does not know"
            legs.append(Leg(first=first, end=None, order=None, reason=reason))
    return RowResolver(run, positions=_positions(run, epoch_rows=indices.rows), legs=legs, files=files)


def _of_samples(run: Run, order: PermutationFileOrder, row: RowFormat, inputs: OrderInputs) -> Resolver:
    name = order.path or order.url or "the index maps"
    if not inputs.indices or inputs.doc is None or inputs.sample is None or inputs.documents is None:
        raise UnresolvableOrderError(run.name, f"the maps of '{name}', or the documents, were not read", ASK)
    maps = SampleMaps(name, doc=inputs.doc, sample=inputs.sample, documents=inputs.documents, row_len=row.row_len)
    shuffle = IndexedOrder(name, inputs.indices, stored=maps.samples)
    return RowResolver(
        run,
        positions=_positions(run),
        legs=[Leg(first=0, end=None, order=shuffle)],
        files=FileRows([(name, maps.samples)]),
        layout="samples",
        maps=maps,
    )


def _by_chunks(run: Run, order: ChunkOrder, corpus: Corpus, inputs: OrderInputs) -> Resolver:
    sequence = [(number, _chunk_file(run, corpus, inputs, number)) for number in order.sequence()]
    declared = corpus.files.rows if corpus.files is not None else None
    stored = declared if declared is not None else order.rows_used
    if stored < order.rows_used:
        raise OrderError(f"the order of run '{run.name}'", f"{order.rows_used} rows of chunks that hold {stored}")
    within = inputs.within if isinstance(order.within, UnknownOrder) else None
    chunks = ChunkedOrder(chunks=len(sequence), stored=stored, used=order.rows_used, within=within)
    return ChunkResolver(
        run,
        positions=_positions(run),
        order=chunks,
        files=FileRows([(file, stored) for _, file in sequence]),
        sequence=sequence,
        rows_used=order.rows_used,
        reason=order.within.reason if isinstance(order.within, UnknownOrder) and within is None else None,
    )


def _chunk_file(run: Run, corpus: Corpus, inputs: OrderInputs, number: int) -> str:
    files = corpus.files
    if files is not None and files.pattern is not None:
        if files.count is not None and number not in files.numbers():
            raise OrderError(f"chunk {number} of run '{run.name}'", f"corpus '{corpus.name}' has no such file")
        return files.file(number)
    if number < len(inputs.files):
        return inputs.files[number].path
    raise UnresolvableOrderError(run.name, f"the files of corpus '{corpus.name}' are not known", ASK)
