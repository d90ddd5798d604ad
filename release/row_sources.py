"""Training rows of a release that others made: its files where they lie, what its order needs, and what reads them.

Only the data repositories that a run needs are listed. What was used to resolve the order is kept as `Needed`, and what
of it nobody could verify is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from open360.release.evidence.addresses import There
from open360.release.evidence.foreign_data import (
    MAX_LIST_BYTES,
    CorpusFiles,
    DataFile,
    files_named,
    files_of,
    listed_repository,
)
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import MAIN, ForeignTarget, PartOfTarget
from open360.release.formats.corpus_files import OpenedFiles, addresses_for, find_indexes, open_files
from open360.release.formats.far_array import FarArray
from open360.release.formats.megatron import MegatronIndex
from open360.release.formats.opening import open_rows
from open360.release.formats.ranges import (
    AddressRanges,
    DataFileError,
    FileIdentity,
    LocalFiles,
    Ranges,
    TargetRanges,
)
from open360.release.formats.rows import RowReader
from open360.release.hub_objects import Repo
from open360.release.order.file_list import parse_file_list
from open360.release.order.npy_header import has_npy_header
from open360.release.order.order_inputs import IndexFile, Needs, OrderInputs, SizedFile, needs
from open360.release.order.resolver import Layout, Resolver, UnresolvableOrderError
from open360.release.order.resolving import resolver_of
from open360.release.order.row_orders import IndexArray
from open360.release.order.sample_maps import Documents, SampleMaps
from open360.release.order_cache import CachedShuffles
from open360.release.survey import ListedRevision
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus
from open360.schema.order import ChunkOrder, FunctionOrder, PermutationFileOrder
from open360.schema.run import Run

CHECKED_INDEX_BYTES = 16 << 20  # index files up to this are read whole, so that their digest can be compared
RAW_INDEX = np.dtype("<u4")


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Something that the order was resolved with. `verified` says by which digest, None: by none."""

    kind: Literal["list", "sizes", "index"]
    name: str
    bytes: int | None = None
    sha256: str | None = None
    etag: str | None = None
    verified: bool = False


class TrainingRows:
    """The rows that a run trained on. Opening asks for listings, sizes and heads of index files; no row is read.

    Args:
        indexes: a folder of line indexes of one's own.
    Raises:
        UnresolvableOrderError: nobody can say which rows a batch holds, not even which chunk.
        TargetError, AddressError, HubError: something that is needed is not there. DataFileError, OrderError: it is not
        what the spec says.
    """

    def __init__(self, target: ForeignTarget, run: Run, indexes: Path | None = None) -> None:
        self.run, self.target = run, target
        corpus = target.document.spec.corpus_of(run)
        wanted = needs(run, corpus)
        assert corpus is not None  # noqa: S101 (or the order were unresolvable)
        self.corpus: Corpus = corpus
        self.needed: list[Needed] = []
        self.addresses = addresses_for(target)
        self.part = PartOfTarget(target, _data_places(run, corpus))
        self.found = self._find_files(wanted)
        self.data: dict[str, DataFile] = {file.name: file for file in self.found.files}
        self.files: OpenedFiles = open_files(self.part, corpus, self.found.files, self.addresses)
        self._indexes = indexes
        self._reader: RowReader | None = None
        self.resolver: Resolver = resolver_of(run, corpus, self._inputs(wanted))

    @property
    def reader(self) -> RowReader:
        """What reads the rows. Raises NoReaderError, DataFileError."""
        if self._reader is None:
            self._reader = self._open(self.files.ranges, self.resolver.layout, self.resolver.maps)
        return self._reader

    def read_here(self, paths: Mapping[str, Path]) -> None:
        """From now on read data files that are on this disk, by their names. Raises as `reader` does."""
        self._reader = self._open(LocalFiles(paths), self.resolver.layout, self.resolver.maps)

    @property
    def numpy_version(self) -> str | None:
        """The version of NumPy that the order was computed with, where it matters."""
        return np.__version__ if isinstance(self.run.order, FunctionOrder) else None

    @property
    def revisions(self) -> list[ListedRevision]:
        """The revisions on the Hub that were looked at."""
        return list(self.part.revisions.values())

    def identity(self, name: str) -> FileIdentity:
        """Size and digests of a data file."""
        return self.files.ranges.identity(name)

    def _open(self, ranges: Ranges, layout: Layout | None = None, maps: SampleMaps | None = None) -> RowReader:
        sizes = {file.name: file.bytes for file in self.found.files if file.bytes is not None}
        find = find_indexes(self.files.ranges, self._indexes) if ranges is self.files.ranges else None
        return open_rows(self.corpus, self.files.names, ranges, sizes=sizes, index_of=find, layout=layout, maps=maps)

    # Files

    def _find_files(self, wanted: Needs) -> CorpusFiles:
        corpus, listed = self.corpus, None
        if corpus.repository is not None and corpus.repository.dataset is not None:
            listed = listed_repository(self.part, corpus.repository.dataset)
        if wanted.listed is not None:
            found = files_named(corpus, self._names_in_list(wanted.listed), listed)
        else:
            found = files_of(ReleaseView(self.part, EvidenceLevel.LISTED), corpus)
        if found is None or not (found.files or found.missing):
            raise TargetError(f"{self.target.label}: {self._without_files(listed)}; see 'open360 validate'")
        if found.missing and not isinstance(self.run.order, ChunkOrder):
            problem = f"{len(found.missing)} of them missing, such as '{found.missing[0]}'"
            raise DataFileError(f"files of corpus '{corpus.name}'", "all that are declared", problem, "ask its authors")
        return self._with_sizes(found) if wanted.measure == "bytes" or corpus.files is None else found

    def _without_files(self, listed: ListedRevision | None) -> str:
        dataset = self.corpus.repository.dataset if self.corpus.repository is not None else None
        if dataset is not None and listed is None:
            return f"expected the data set {dataset} on the Hub, found none (or it is not public)"
        return f"expected published files of corpus '{self.corpus.name}', found none that can be read"

    def _names_in_list(self, url: str) -> list[str]:
        files = self.corpus.files
        data = self.addresses.read(url, MAX_LIST_BYTES)
        found, stated = hashlib.sha256(data).hexdigest(), files.listed_sha256 if files is not None else None
        if stated is not None and found != stated:
            raise DataFileError(url, f"the list with sha256 {stated}", found, "ask its authors, or correct the spec")
        self.needed.append(Needed(kind="list", name=url, bytes=len(data), sha256=found, verified=stated is not None))
        tokenizer = self.corpus.tokenizer.hub if self.corpus.tokenizer is not None else None
        return parse_file_list(url, data, tokenizer=tokenizer)

    def _with_sizes(self, found: CorpusFiles) -> CorpusFiles:
        states = self.addresses.states(file.url for file in found.files if file.bytes is None and file.url is not None)
        files = []
        for file in found.files:
            state = states.get(file.url or "")
            size = state.bytes if isinstance(state, There) else None
            known = file.bytes if file.bytes is not None else size
            if known is None:  # tells why
                known = AddressRanges(self.addresses).identity(file.url or "").bytes
            files.append(DataFile(name=file.name, bytes=known, path=file.path, url=file.url))
        total = sum(file.bytes or 0 for file in files)
        names = f"{len(files)} files of corpus '{self.corpus.name}'"
        self.needed.append(Needed(kind="sizes", name=names, bytes=total, verified=False))
        return CorpusFiles(corpus=found.corpus, place=found.place, files=tuple(files))

    # The order

    def _inputs(self, wanted: Needs) -> OrderInputs:
        arrays = {file.part: self._index(file) for file in wanted.index_files}
        documents = self._documents() if wanted.documents else None
        return OrderInputs(
            files=() if wanted.documents else self._sized(wanted),
            indices=tuple(arrays[part] for part in ("indices", "shuffle") if part in arrays),
            doc=arrays.get("doc"),
            sample=arrays.get("sample"),
            documents=documents,
            shuffle=CachedShuffles(),
        )

    def _sized(self, wanted: Needs) -> tuple[SizedFile, ...]:
        if wanted.measure == "nothing":
            declares = self.corpus.files is not None and self.corpus.files.pattern is not None
            return () if declares else tuple(SizedFile(path=file.name) for file in self.found.files)
        if wanted.measure == "bytes":
            return tuple(SizedFile(path=file.name, bytes=file.bytes) for file in self.found.files)
        reader = self._open(self.files.ranges)
        sized = tuple(SizedFile(path=name, rows=reader.rows_of(name)) for name in self.files.names)
        self.needed.append(Needed(kind="sizes", name=f"rows of {len(sized)} files of corpus '{self.corpus.name}'"))
        return sized

    def _index(self, file: IndexFile) -> IndexArray:
        ranges, path, stated = self._index_place(file)
        identity = ranges.identity(path)
        if stated is not None and identity.sha256 not in (None, stated):
            raise DataFileError(path, f"sha256 {stated}", str(identity.sha256), "ask its authors, or correct the spec")
        is_raw = file.part == "indices"
        whole = bytes(ranges.read(path, 0, identity.bytes)) if identity.bytes <= CHECKED_INDEX_BYTES else None
        sha256 = hashlib.sha256(whole).hexdigest() if whole is not None else None
        for expected in (stated, identity.sha256):
            if sha256 is not None and expected is not None and sha256 != expected:
                raise DataFileError(path, f"sha256 {expected}", sha256, "fetch it again, or ask its authors")
        verified = sha256 is not None and (stated or identity.sha256) is not None
        self.needed.append(
            Needed(
                kind="index",
                name=path,
                bytes=identity.bytes,
                sha256=sha256 or stated or identity.sha256,
                etag=identity.etag,
                verified=verified,
            )
        )
        if whole is not None and is_raw and not has_npy_header(whole):
            return np.frombuffer(whole[: len(whole) // RAW_INDEX.itemsize * RAW_INDEX.itemsize], dtype=RAW_INDEX)
        return FarArray.of_file(ranges, path, RAW_INDEX if is_raw else None)

    def _index_place(self, file: IndexFile) -> tuple[Ranges, str, str | None]:
        order = self.run.order
        stated = order.sha256 if isinstance(order, PermutationFileOrder) and file.part == "indices" else None
        if file.url is not None:
            return AddressRanges(self.addresses), file.url, stated
        listed = listed_repository(self.part, file.repo) if file.repo is not None else None
        if listed is None or file.path is None:
            what = f"the data set {file.repo}" if file.repo is not None else "a place of its index file"
            raise UnresolvableOrderError(self.run.name, f"{what} is not there, or not public")
        inside = file.path if file.part == "indices" else _map_in(listed, file.path, file.part)
        return TargetRanges(self.part), f"{listed.root}/{inside}", stated

    def _documents(self) -> Documents:
        path = self._document_index()
        index = MegatronIndex(TargetRanges(self.part), path)
        row = self.corpus.row
        if row is not None and index.header.dtype != np.dtype(row.dtype):
            raise DataFileError(path, f"ids of type {row.dtype}", str(index.header.dtype), "correct the spec")
        self.needed.append(Needed(kind="index", name=path, bytes=TargetRanges(self.part).identity(path).bytes))
        return index.documents()

    def _document_index(self) -> str:
        if self.found.missing:
            missing = f"'{self.found.missing[0]}'"
            raise DataFileError(
                f"files of corpus '{self.corpus.name}'", "all of them", f"no {missing}", "ask its authors"
            )
        first = self.found.files[0]
        listed = self.part.locate(first.path)[0] if first.path is not None else None
        found = sorted(path for path in listed.files if path.endswith(".idx")) if listed is not None else []
        beside = [path for path in found if first.name.startswith(path.removesuffix(".idx"))]
        chosen = max(beside, key=len) if beside else found[0] if len(found) == 1 else None
        if chosen is None or listed is None:
            raise UnresolvableOrderError(self.run.name, f"no '.idx' says where the documents of '{first.name}' lie")
        return f"{listed.root}/{chosen}"


def _map_in(listed: ListedRevision, folder: str, part: str) -> str:
    inside = (path for path in sorted(listed.files) if path.startswith(f"{folder.rstrip('/')}/"))
    found = next((path for path in inside if path.endswith(f"{part}_idx.npy")), None)
    return found if found is not None else f"{folder}/…_{part}_idx.npy"


def _data_places(run: Run, corpus: Corpus) -> list[tuple[Repo, str]]:
    places = []
    if corpus.repository is not None and corpus.repository.dataset is not None:
        repo = Repo(id=corpus.repository.dataset, type="dataset")
        places.append((repo, corpus.repository.revision or MAIN))
    other = getattr(run.order, "repo", None)
    if other is not None and all(repo.id != other for repo, _ in places):
        places.append((Repo(id=other, type="dataset"), MAIN))
    return places
