"""Stored orders: the index files that a release of others names, found and read block by block.

Two forms: raw uint32 without a header, called `.npy` (OLMo's `global_indices.npy`), and the three index maps of a
NeoX sampler, which are real NumPy files (Pythia's seeds). Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from open360.release.evidence.addresses import AddressError, AddressState, Gone, There
from open360.release.evidence.foreign_data import files_of, listed_repository, row_bytes
from open360.release.evidence.once import once
from open360.release.order.npy_header import HEAD_BYTES, has_npy_header, parse_npy_header
from open360.release.order.permutation import MAX_ENTRIES, PermutationCheck
from open360.release.order.spans import OrderError, Shards
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.schema.order import PermutationFileOrder
from open360.schema.run import Run

BLOCK_BYTES = 8 << 20
INDEX_MAPS = ("doc", "sample", "shuffle")


@dataclass(frozen=True, kw_only=True)
class OrderFile:
    """An index file. `part` is `indices`, or which of the three maps it is.

    `path` is what the target calls it, `url` its address; `bytes` is None when it is not there, or not stated.
    """

    order: PermutationFileOrder
    run: Run
    part: str
    name: str
    bytes: int | None = None
    path: str | None = None
    url: str | None = None
    state: AddressState | None = None

    @property
    def is_there(self) -> bool:
        """Whether it was seen."""
        return self.path is not None or isinstance(self.state, There)

    @property
    def is_missing(self) -> bool:
        """Whether it was looked for and is not there; an address that does not answer is neither."""
        return not self.is_there and (self.url is None or isinstance(self.state, Gone))

    @property
    def holds_indices(self) -> bool:
        """Whether its entries are meant to be a permutation."""
        return self.part in ("indices", "shuffle")


_READ: WeakKeyDictionary[ReleaseView, dict[str, IndexContent | OrderError]] = WeakKeyDictionary()


@once
def order_files(release: ReleaseView) -> list[OrderFile]:
    """Every index file that the spec names, once, whether it is there or not. Raises CannotCheckError for a folder."""
    found: dict[str, OrderFile] = {}
    for run in release.spec.all_runs():
        if isinstance(run.order, PermutationFileOrder):
            for file in _files(release, run, run.order):
                found.setdefault(file.name, file)
    return list(found.values())


def _files(release: ReleaseView, run: Run, order: PermutationFileOrder) -> Iterator[OrderFile]:
    if order.url is not None:
        state = release.addresses.state(order.url)
        size = state.bytes if isinstance(state, There) else None
        yield OrderFile(order=order, run=run, part="indices", name=order.url, bytes=size, url=order.url, state=state)
    if order.repo is None or order.path is None or release.foreign is None:
        return
    listed = listed_repository(release.foreign, order.repo)
    if listed is None:
        return  # another rule tells of a repository that is missing
    if order.format == "raw-uint32":
        wanted = {"indices": order.path if order.path in listed.files else None}
    else:
        inside = [path for path in sorted(listed.files) if path.startswith(f"{order.path.rstrip('/')}/")]
        wanted = {part: next((p for p in inside if p.endswith(f"{part}_idx.npy")), None) for part in INDEX_MAPS}
    for part, path in wanted.items():
        if path is None:
            missing = order.path if part == "indices" else f"{order.path}/…_{part}_idx.npy"
            yield OrderFile(order=order, run=run, part=part, name=f"{listed.root}/{missing}")
        else:
            place = f"{listed.root}/{path}"
            size = listed.files[path].bytes
            yield OrderFile(order=order, run=run, part=part, name=place, bytes=size, path=place)


def declared_rows(release: ReleaseView, run: Run) -> int | None:
    """Rows of the data that an order of `run` picks from: as declared, else by the sizes of the files."""
    corpus = release.spec.corpus_of(run)
    if corpus is None or corpus.files is None:
        return None
    if corpus.files.total_rows is not None:
        return corpus.files.total_rows
    if corpus.files.rows is not None and corpus.files.count is not None:
        return corpus.files.rows * corpus.files.count
    found, size = files_of(release, corpus), row_bytes(corpus)
    return Shards(found.stored(), size).rows if found is not None and found.is_whole and size is not None else None


@dataclass(frozen=True, kw_only=True)
class IndexContent:
    """What the entries of an index file are, how many, and the digest of the whole file."""

    entries: int
    check: PermutationCheck
    sha256: str


def read_part(release: ReleaseView, file: OrderFile, begin: int, end: int) -> bytes:
    """Bytes of an index file. Raises OrderError."""
    try:
        if file.path is not None:
            return release.target.read_range(file.path, begin, end)
        return release.addresses.read_range(file.url or "", begin, end)
    except (AddressError, TargetError) as error:
        raise OrderError(file.name, f"it cannot be read ({error})") from error


def array_of(release: ReleaseView, file: OrderFile) -> tuple[int, np.dtype[np.integer], int]:
    """Where the entries of an index file begin, their type and number. Raises OrderError."""
    size = file.bytes
    if size is None:
        raise OrderError(file.name, "its host does not say how large it is")
    head = read_part(release, file, 0, min(size, HEAD_BYTES))
    if file.order.format == "raw-uint32" and not has_npy_header(head):
        return 0, np.dtype("<u4"), size // 4
    layout = parse_npy_header(file.name, head, size)
    if len(layout.shape) != 1:
        raise OrderError(file.name, f"expected one column of numbers, found the shape {layout.shape}")
    return layout.begin, layout.dtype, layout.shape[0]


def content_of(release: ReleaseView, file: OrderFile) -> IndexContent:
    """Look at every entry of an index file, once for all rules. Raises OrderError."""
    known = _READ.setdefault(release, {})
    if file.name not in known:
        try:
            known[file.name] = _look(release, file)
        except OrderError as error:
            known[file.name] = error
    found = known[file.name]
    if isinstance(found, OrderError):
        raise found
    return found


def _look(release: ReleaseView, file: OrderFile) -> IndexContent:
    begin, dtype, entries = array_of(release, file)
    if entries > MAX_ENTRIES:
        raise OrderError(file.name, f"it holds {entries} entries, looked at are at most {MAX_ENTRIES}")
    rows = declared_rows(release, file.run) if file.part == "indices" else None
    check, digest = PermutationCheck(min(max(entries, rows or 0), MAX_ENTRIES)), hashlib.sha256()
    end, size = begin + entries * dtype.itemsize, file.bytes or 0
    for at, stop in _blocks(begin, end, size):
        data = read_part(release, file, at, stop)
        digest.update(data)
        if begin <= at and stop <= end:
            check.add(_unsigned(file.name, np.frombuffer(data, dtype=dtype)))
        if release.progress is not None:
            release.progress(stop, size, file.name.rsplit("/", 1)[-1])
    return IndexContent(entries=entries, check=check, sha256=digest.hexdigest())


def _blocks(begin: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The whole file in blocks, cut where the entries begin and end."""
    for first, last in ((0, begin), (begin, end), (end, size)):
        for at in range(first, last, BLOCK_BYTES):
            yield at, min(at + BLOCK_BYTES, last)


def _unsigned(name: str, block: NDArray[np.integer]) -> NDArray[np.integer]:
    if block.dtype.kind == "i" and block.size and int(block.min()) < 0:
        raise OrderError(name, f"expected entries from 0 on, found {int(block.min())}")
    return block
