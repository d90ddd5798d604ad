"""The data files of releases that others made: which ones the spec declares, which are there, and their bytes.

A corpus' files are on the Hub, at plain addresses, or both; given by a pattern, or by a published list whose order (and
repetitions) count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from open360.release.evidence.addresses import AddressError, There
from open360.release.foreign_target import ForeignTarget
from open360.release.hub_objects import Repo
from open360.release.order.file_list import parse_file_list
from open360.release.order.spans import OrderError, StoredFile
from open360.release.survey import ListedRevision
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, FileSet

MAX_LIST_BYTES = 64 << 20
ITEM_BYTES = {"uint16": 2, "uint32": 4, "int32": 4}
RAW_FORMATS = ("bin", "npy", "ds")
_INDEX = re.compile(r"\{index(?::0?(\d{1,2})d)?\}")


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a corpus. `path` is what the target calls it; `url` where it is at an address."""

    name: str
    bytes: int | None
    path: str | None = None
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class CorpusFiles:
    """Files of a corpus that are there, in their order; declared ones that are not; ones that nothing declares."""

    corpus: Corpus
    place: str
    files: tuple[DataFile, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every declared file is there, with a size that is known."""
        return not self.missing and bool(self.files) and all(file.bytes is not None for file in self.files)

    def stored(self) -> list[StoredFile]:
        """The files as the arithmetic of rows takes them; raw formats only. Ask `is_whole` first."""
        return [StoredFile(file.name, file.bytes or 0) for file in self.files]


def row_bytes(corpus: Corpus) -> int | None:
    """Bytes of a stored row, None where rows have no fixed size."""
    row = corpus.row
    if row is None or row.format not in RAW_FORMATS or row.dtype not in ITEM_BYTES:
        return None
    return row.row_len * ITEM_BYTES[row.dtype]


def declared_files(release: ReleaseView) -> Iterator[tuple[int, Corpus, FileSet]]:
    """Corpora that declare published files, each with its place in the spec."""
    for index, corpus in enumerate(release.spec.corpora):
        if corpus.files is not None and (corpus.files.pattern is not None or corpus.files.listed is not None):
            yield index, corpus, corpus.files


def listed_repository(target: ForeignTarget, repo_id: str) -> ListedRevision | None:
    """A data repository at the revision that the spec means."""
    wanted = Repo(id=repo_id, type="dataset")
    return next((target.revisions.get(place) for place in target.data_repos if place[0] == wanted), None)


_KNOWN: WeakKeyDictionary[ReleaseView, dict[str, CorpusFiles | None]] = WeakKeyDictionary()


def files_of(release: ReleaseView, corpus: Corpus) -> CorpusFiles | None:
    """The published files of a corpus; None when none are declared, or where they are cannot be looked at."""
    known = _KNOWN.setdefault(release, {})
    if corpus.name not in known:
        known[corpus.name] = _find(release, corpus)
    return known[corpus.name]


def _find(release: ReleaseView, corpus: Corpus) -> CorpusFiles | None:
    repository, files, target = corpus.repository, corpus.files, release.foreign
    if files is None or target is None:
        return None
    dataset = repository.dataset if repository is not None else None
    listed = listed_repository(target, dataset) if dataset is not None else None
    if files.pattern is not None and listed is not None:
        return _of_pattern(release, corpus, files, listed)
    if files.pattern is not None and files.count is not None:
        return files_named(corpus, [files.file(number) for number in files.numbers()], None)
    names = names_in_list(release, corpus)
    return files_named(corpus, names, listed) if names else None


def _of_pattern(release: ReleaseView, corpus: Corpus, files: FileSet, listed: ListedRevision) -> CorpusFiles:
    assert files.pattern is not None  # noqa: S101
    there = _numbers_there(files.pattern, listed)
    if files.count is not None:
        wanted = list(files.numbers())
    else:  # how many is not said: then at least without holes
        wanted = list(range(files.first, max(there, default=files.first) + 1, files.stride))
    declared = {number: files.file(number) for number in wanted}
    others = {
        name
        for _, other, set_ in declared_files(release)
        if other.repository is not None and corpus.repository is not None and set_.pattern is not None
        if other.repository.dataset == corpus.repository.dataset and set_.count is not None
        for name in (set_.file(number) for number in set_.numbers())
    }
    found = tuple(
        DataFile(name=name, bytes=listed.files[name].bytes, path=f"{listed.root}/{name}")
        for name in declared.values()
        if name in listed.files
    )
    return CorpusFiles(
        corpus=corpus,
        place=listed.root,
        files=found,
        missing=tuple(name for name in declared.values() if name not in listed.files),
        extra=tuple(sorted(set(there.values()) - set(declared.values()) - others)) if files.count is not None else (),
    )


def _numbers_there(pattern: str, listed: ListedRevision) -> dict[int, str]:
    """Files whose path fits the pattern, by their number."""
    parts = _INDEX.split(pattern)
    if len(parts) == 1:
        return {0: pattern} if pattern in listed.files else {}
    width = rf"\d{{{int(parts[1])},}}" if parts[1] else r"\d+"
    form = re.compile(f"{re.escape(parts[0])}({width}){re.escape(parts[2])}")
    matches = ((form.fullmatch(path), path) for path in listed.files)
    return {int(match[1]): path for match, path in matches if match is not None and len(match[1]) <= 18}


def files_named(corpus: Corpus, names: list[str], listed: ListedRevision | None) -> CorpusFiles | None:
    """Files by the names that a list gives them, on the Hub or at addresses; None when one cannot be followed."""
    found: list[DataFile] = []
    for name in names:
        if listed is not None and name in listed.files:
            found.append(DataFile(name=name, bytes=listed.files[name].bytes, path=f"{listed.root}/{name}"))
            continue
        url = address_of(corpus, name)
        if url is None:
            return None  # a path that only its authors can follow
        found.append(DataFile(name=name, bytes=None, url=url))
    place = corpus.files.listed if corpus.files is not None else None
    return CorpusFiles(corpus=corpus, place=place or found[0].url or "", files=tuple(found))


def address_of(corpus: Corpus, name: str) -> str | None:
    """Where a file that a list names is: its own address, or below that of the corpus."""
    if name.startswith(("http://", "https://")):
        return name
    base = corpus.repository.url if corpus.repository is not None else None
    return None if base is None or "://" in name else f"{base.rstrip('/')}/{name.lstrip('/')}"


def names_in_list(release: ReleaseView, corpus: Corpus) -> list[str]:
    """What the published list of a corpus' files names; nothing when it cannot be read, or is longer than declared."""
    assert corpus.files is not None  # noqa: S101
    if corpus.files.listed is None:
        return []
    tokenizer = corpus.tokenizer.hub if corpus.tokenizer is not None else None
    try:
        data = release.addresses.read(corpus.files.listed, MAX_LIST_BYTES)
        return parse_file_list(corpus.files.listed, data, tokenizer=tokenizer)
    except (AddressError, OrderError):
        return []  # the address is what `HUB003` looks at


def with_sizes(release: ReleaseView, found: CorpusFiles, chosen: Iterable[DataFile] | None = None) -> CorpusFiles:
    """The same with the sizes that hosts state of (the chosen) files at addresses; the others stay without."""
    asked = found.files if chosen is None else tuple(chosen)
    wanted = [file.url for file in asked if file.bytes is None and file.url is not None]
    if not wanted:
        return found
    states = release.addresses.states(wanted)
    files = []
    for file in found.files:
        state = states.get(file.url or "")
        size = state.bytes if file.bytes is None and isinstance(state, There) else file.bytes
        files.append(DataFile(name=file.name, bytes=size, path=file.path, url=file.url))
    return CorpusFiles(
        corpus=found.corpus, place=found.place, files=tuple(files), missing=found.missing, extra=found.extra
    )


def read_part(release: ReleaseView, file: DataFile, begin: int, end: int) -> bytes:
    """Bytes `[begin, end)` of a data file. Raises AddressError, TargetError, HubError."""
    if file.path is not None:
        return release.target.read_range(file.path, begin, end)
    assert file.url is not None  # noqa: S101
    return release.addresses.read_range(file.url, begin, end)
