"""The reader of a corpus' rows, by the format that its spec declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from open360.release.formats.json_lines import Indexes, JsonReader
from open360.release.formats.line_index import LineIndex
from open360.release.formats.megatron import SampleReader
from open360.release.formats.parquet_rows import ParquetReader
from open360.release.formats.ranges import DataFileError, Ranges
from open360.release.formats.rows import RowReader, StreamReader
from open360.release.formats.shards import IdArea, LitpkdsAreas, NumpyAreas, ShardReader, raw_area
from open360.release.formats.token_ids import STORED_DTYPES
from open360.release.order.resolver import Layout
from open360.release.order.sample_maps import SampleMaps
from open360.release.order.spans import StoredFile
from open360.schema.corpus import Corpus, FileSet, RowFormat
from open360.schema.errors import Open360Error


class NoReaderError(Open360Error):
    """Rows of this format cannot be read."""

    def __init__(self, corpus: str, problem: str) -> None:
        self.corpus, self.problem = corpus, problem
        super().__init__(f"corpus '{corpus}': {problem}; see 'open360 catalogue'")


def open_rows(
    corpus: Corpus,
    files: Sequence[str],
    ranges: Ranges,
    *,
    sizes: Mapping[str, int] | None = None,
    index_of: Indexes | None = None,
    layout: Layout | None = None,
    maps: SampleMaps | None = None,
) -> RowReader:
    """A reader of the rows of a corpus.

    Args:
        files: names of its files in their order, as `ranges` takes them.
        sizes: bytes of the files as far as they are known; streams need all of them, and ask for the rest.
        index_of: line indexes of files of JSON lines; none are looked for by default (see `find_indexes`).
        layout: what row spans count, as the resolver says; by default rows of a stream for `bin`, else of files.
        maps: index maps that cut `samples` out of the stream of documents.
    Raises:
        NoReaderError: the spec does not declare rows, or in a format that is not read.
        DataFileError: a file has another size than the spec declares.
    """
    row = corpus.row
    if row is None:
        raise NoReaderError(corpus.name, "its spec does not say how rows are stored (expected a field 'row')")
    known = dict(sizes or {})
    expected = _declared_sizes(corpus.files, files)
    if layout is None:
        layout = "stream" if row.format == "bin" else "files"
    if layout != "files":
        stored = [StoredFile(name, _checked(name, _size(name, known, ranges), expected)) for name in files]
        overlap = row.overlap if layout == "stream" else 0
        stream = StreamReader(ranges, stored, row_len=row.row_len, dtype=_dtype(corpus, row), overlap=overlap)
        return stream if maps is None else SampleReader(stream, maps)
    if row.format == "jsonl":
        declared = corpus.files.rows if corpus.files is not None else None
        find = index_of if index_of is not None else _no_index
        return JsonReader(ranges, row_len=row.row_len, ids=row.ids, source=row.source, index_of=find, rows=declared)
    if row.format == "parquet":
        return ParquetReader(ranges, row_len=row.row_len, ids=row.ids, source=row.source)
    area = _areas(corpus, row, ranges)

    def checked_area(file: str, size: int) -> IdArea:
        return area(file, _checked(file, size, expected))

    return ShardReader(ranges, row_len=row.row_len, area=checked_area, sizes=known, overlap=row.overlap)


def _areas(corpus: Corpus, row: RowFormat, ranges: Ranges) -> Callable[[str, int], IdArea]:
    if row.format == "npy":
        return NumpyAreas(ranges, dtype=_dtype(corpus, row), row_len=row.row_len)
    if row.format in ("bin", "ds"):
        return raw_area(_dtype(corpus, row))
    if row.format == "litpkds":
        return LitpkdsAreas(ranges)
    raise NoReaderError(corpus.name, f"rows in the format '{row.format}' are not read")


def _no_index(file: str) -> LineIndex | None:
    del file
    return None


def _dtype(corpus: Corpus, row: RowFormat) -> np.dtype[np.integer]:
    found = STORED_DTYPES.get(row.dtype)
    if found is None:
        raise NoReaderError(corpus.name, f"rows in the format '{row.format}' have a dtype, not '{row.dtype}'")
    return found


def _size(name: str, known: Mapping[str, int], ranges: Ranges) -> int:
    size = known.get(name)
    return size if size is not None else ranges.identity(name).bytes


def _declared_sizes(declared: FileSet | None, files: Sequence[str]) -> dict[str, int]:
    """Bytes of files as the spec declares them, where it does."""
    if declared is None or declared.bytes is None:
        return {}
    sizes = dict.fromkeys(files, declared.bytes)
    if files and (declared.count is None or declared.count == len(files)):
        del sizes[files[-1]]
        if declared.last_bytes is not None or declared.count is not None:
            sizes[files[-1]] = declared.last_bytes or declared.bytes
    return sizes


def _checked(file: str, size: int, expected: Mapping[str, int]) -> int:
    """A size that is as declared: a shard that is shorter shifts every row after it. Raises DataFileError."""
    if size != expected.get(file, size):
        raise DataFileError(file, f"{expected[file]} bytes as declared", f"{size} bytes", "see 'open360 validate'")
    return size
