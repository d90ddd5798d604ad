"""The data files of a foreign release, opened for reading by range, and their line indexes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from open360.release.evidence.addresses import AddressError, Addresses, is_public
from open360.release.evidence.foreign_data import DataFile, files_of
from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import ForeignTarget
from open360.release.formats.json_lines import Indexes
from open360.release.formats.line_index import SUFFIX, LineIndex, read_line_index
from open360.release.formats.ranges import (
    AddressRanges,
    FolderRanges,
    MissingFileError,
    MixedRanges,
    Ranges,
    TargetRanges,
    data_addresses,
)
from open360.release.targets import TargetError, check_path
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class OpenedFiles:
    """Files of a corpus in their order. `ranges` takes their names, and a name with a suffix for what lies beside."""

    corpus: Corpus
    names: tuple[str, ...]
    ranges: Ranges


def addresses_for(target: ForeignTarget) -> Addresses:
    """What reads data at plain addresses; those of this machine only where the Hub itself is there."""
    host = target.survey.hub.endpoint.split("://")[-1].split("/")[0].rsplit(":", 1)[0]
    return data_addresses(public_only=is_public(host))


def open_files(
    target: ForeignTarget, corpus: Corpus, files: Sequence[DataFile], addresses: Addresses | None = None
) -> OpenedFiles:
    """Files on the Hub and at plain addresses, each read where it lies; sizes that are known are insisted on."""
    paths = {file.name: file.path or file.url or file.name for file in files}
    sizes = {file.url: file.bytes for file in files if file.url is not None and file.bytes is not None}
    far = AddressRanges(addresses if addresses is not None else addresses_for(target), sizes)
    ranges = MixedRanges(TargetRanges(target), far, paths, suffixes=(SUFFIX,))
    return OpenedFiles(corpus=corpus, names=tuple(file.name for file in files), ranges=ranges)


def index_name(file: str) -> str:
    """Where the line index of a file lies in a folder of indexes. Raises UnsafePathError for a name that leads out."""
    return check_path("line indexes", f"{file.split('://', 1)[-1]}{SUFFIX}")


def find_indexes(ranges: Ranges, folder: Path | None = None) -> Indexes:
    """Line indexes in a folder of one's own, else those that lie beside the files; none where there is none.

    Raises DataFileError for an index that is there and damaged.
    """

    def find(file: str) -> LineIndex | None:
        if folder is not None and (folder / index_name(file)).is_file():
            return read_line_index(FolderRanges(folder), index_name(file))
        try:
            ranges.identity(f"{file}{SUFFIX}")
        except (MissingFileError, AddressError):
            return None
        return read_line_index(ranges, f"{file}{SUFFIX}")

    return find


def files_of_lines(target: ForeignTarget, corpus: str | None, patterns: Iterable[str] = ()) -> list[OpenedFiles]:
    """The files of JSON lines of a release, or those whose names match one of the patterns.

    Raises TargetError when there are none.
    """
    release, wanted = ReleaseView(target, EvidenceLevel.LISTED), tuple(patterns)
    found: list[OpenedFiles] = []
    for candidate in release.spec.corpora:
        if candidate.row is None or candidate.row.format != "jsonl" or corpus not in (None, candidate.name):
            continue
        listed = files_of(release, candidate)
        chosen = [
            file
            for file in (listed.files if listed is not None else ())
            if not wanted or any(fnmatchcase(file.name, pattern) for pattern in wanted)
        ]
        if chosen:
            found.append(open_files(target, candidate, chosen))
    if not found:
        asked = f" that match {', '.join(wanted)}" if wanted else ""
        raise TargetError(f"{target.label}: expected files of JSON lines{asked}, found none; see 'open360 show'")
    return found
