"""What a resolver needs beyond the spec, and what it is handed: names and sizes of files, index arrays, shuffles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from numpy.typing import NDArray

from open360.release.order.resolver import UnresolvableOrderError
from open360.release.order.row_orders import IndexArray, KeptShuffles, Shuffle
from open360.release.order.sample_maps import Documents
from open360.schema.corpus import Corpus, FileSet, RowFormat
from open360.schema.order import ChunkOrder, FunctionOrder, MaterializedOrder, PermutationFileOrder, UnknownOrder
from open360.schema.run import Run

ID_BYTES = {"uint16": 2, "uint32": 4, "int32": 4}
RAW_FORMATS = ("bin", "npy", "ds")
MAX_FILES = 1_000_000
INDEX_MAPS = ("doc", "sample", "shuffle")


@dataclass(frozen=True, kw_only=True)
class SizedFile:
    """A data file: its bytes, or the rows that it is known to hold. `begin` is where rows begin, after a header."""

    path: str
    bytes: int | None = None
    rows: int | None = None
    begin: int = 0


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """An index file that an order names: at an address, or at a path of a data set.

    `part` is `indices`, or one of the three maps; then `path` is a folder, and the file ends in `{part}_idx.npy`.
    """

    part: Literal["indices", "doc", "sample", "shuffle"]
    url: str | None = None
    repo: str | None = None
    path: str | None = None


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What must be found out before `resolver_of` can answer.

    Attributes:
        listed: address of the list that names the files, one by one and in the order that counts.
        files: the files whose sizes are wanted; None when the list, or a manifest, names them.
        measure: what is wanted of each file.
        index_files: to be read, or mapped.
        documents: whether sizes and places of documents (`.idx`) are wanted.
    """

    listed: str | None = None
    files: tuple[str, ...] | None = ()
    measure: Literal["nothing", "bytes", "rows"] = "nothing"
    index_files: tuple[IndexFile, ...] = ()
    documents: bool = False


@dataclass(frozen=True, kw_only=True)
class OrderInputs:
    """What was found out. What the spec declares may be left out.

    Attributes:
        files: the data files in the order of the corpus, each as often as its list names it.
        indices: the index array of each epoch that is known.
        doc, sample: index maps (their shuffle is `indices`), with the `documents` that they point into.
        within: order of the rows of the *n*-th chunk trained, where a spec does not know it: to try one out.
        shuffle: what shuffles, and keeps what it has shuffled.
    """

    files: tuple[SizedFile, ...] = ()
    indices: tuple[IndexArray, ...] = ()
    doc: IndexArray | None = None
    sample: IndexArray | None = None
    documents: Documents | None = None
    within: Callable[[int], NDArray[Any]] | None = None
    shuffle: Shuffle = field(default_factory=KeptShuffles)


def needs(run: Run, corpus: Corpus | None) -> Needs:
    """What `resolver_of(run, corpus, …)` must be handed. Raises UnresolvableOrderError when nothing would help."""
    order = run.order
    reason = hopeless(run, corpus)
    if reason is not None or corpus is None:
        raise UnresolvableOrderError(run.name, reason or "no corpus is declared")
    if isinstance(order, PermutationFileOrder) and order.format == "neox-index-maps":
        maps = tuple(IndexFile(part=part, repo=order.repo, path=order.path) for part in INDEX_MAPS)  # type: ignore[arg-type]
        return Needs(index_files=maps, documents=True)
    index_files: tuple[IndexFile, ...] = ()
    if isinstance(order, PermutationFileOrder):
        index_files = (IndexFile(part="indices", url=order.url, repo=order.repo, path=order.path),)
    listed, names, measure = _of_files(corpus, by_chunk=isinstance(order, ChunkOrder))
    return Needs(listed=listed, files=names, measure=measure, index_files=index_files)


def hopeless(run: Run, corpus: Corpus | None) -> str | None:
    """Why no input could ever resolve the order of a run; None when some would."""
    order = run.order
    if isinstance(order, UnknownOrder):
        return order.reason
    if isinstance(order, FunctionOrder):
        if not order.resolvable:
            return "it follows from files, or sizes of files, that are not public"
        if order.algorithm != "numpy-pcg64-shuffle":
            return f"the algorithm '{order.algorithm}' has not been written down well enough to be repeated"
        if order.seed is None and run.seed is None:
            return "its seed is not declared"
    if corpus is None:
        return "no corpus is declared"
    if run.batch is None:
        return "its batch size is not declared"
    if corpus.row is None and not isinstance(order, ChunkOrder):
        return f"the rows of corpus '{corpus.name}' are not declared"
    return None


def is_stream(corpus: Corpus, run: Run) -> bool:
    """Whether the files are one array cut anywhere, so that rows may begin in one and end in the next."""
    return isinstance(run.order, MaterializedOrder) and corpus.row is not None and corpus.row.format == "bin"


def _of_files(
    corpus: Corpus, *, by_chunk: bool
) -> tuple[str | None, tuple[str, ...] | None, Literal["nothing", "bytes", "rows"]]:
    files, row = corpus.files, corpus.row
    if files is None:
        return None, None, "bytes" if row is not None and row.format in RAW_FORMATS else "rows"
    if by_chunk or _says_sizes(files):
        return (files.listed, None, "nothing") if files.pattern is None else (None, (), "nothing")
    measure: Literal["bytes", "rows"] = "bytes" if row is not None and row.format in RAW_FORMATS else "rows"
    if files.pattern is None:
        return files.listed, None, measure
    if files.count is None or files.count > MAX_FILES:
        return None, None, measure
    return None, tuple(files.file(number) for number in files.numbers()), measure


def _says_sizes(files: FileSet) -> bool:
    named = files.pattern is not None and files.count is not None and files.count <= MAX_FILES
    return named and (files.bytes is not None or files.rows is not None)


def declared_sizes(files: FileSet) -> tuple[SizedFile, ...] | None:
    """The files of a set with their sizes, as declared; None when names or sizes are not."""
    if not _says_sizes(files):
        return None
    assert files.count is not None  # noqa: S101
    names = [files.file(number) for number in files.numbers()]
    if files.bytes is not None:
        sizes = [files.bytes] * (files.count - 1) + [files.last_bytes or files.bytes]
        return tuple(SizedFile(path=name, bytes=size) for name, size in zip(names, sizes, strict=True))
    assert files.rows is not None  # noqa: S101
    rows = [files.rows] * files.count
    if files.total_rows is not None:  # the last file may hold fewer
        rows[-1] = min(max(files.total_rows - files.rows * (files.count - 1), 0), files.rows)
    return tuple(SizedFile(path=name, rows=count) for name, count in zip(names, rows, strict=True))


def row_bytes(row: RowFormat) -> int | None:
    """Bytes of a stored row, None where rows have no fixed size."""
    if row.format not in RAW_FORMATS or row.dtype not in ID_BYTES:
        return None
    return row.row_len * ID_BYTES[row.dtype]
