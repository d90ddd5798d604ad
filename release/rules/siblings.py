"""The rule about chunks among themselves: files that are made alike are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from statistics import median

from open360.release.corpus.parquet_layout import ChunkFileError
from open360.release.evidence.addresses import AddressError
from open360.release.evidence.data_scan import CorpusScan, FileScan, parquet_footer, scans
from open360.release.evidence.foreign_data import RAW_FORMATS, CorpusFiles, DataFile, declared_files, files_of
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.targets import TargetError
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, FileSet

FEWEST_SIBLINGS = 4
MAJORITY = 0.8  # so many of the files have to agree before the others are called different
LIKE = 0.25  # share by which the size of a file of JSON lines with equally many rows may differ from the median


class ChunkUnlikeSiblings(Rule):
    """A data file differs from its siblings.

    ## What it does
    Compares files of one corpus that are made alike. By the listing: raw files have the same size but for the last one,
    where nearly all others have; JSON lines with equally many declared rows differ little in bytes; no file has the
    digest of another one, unless it is declared as `repeated`. At level `hashed` the footers of Parquet files: the
    number of rows. At level `loaded` JSON lines are read, small files whole and of large ones a part: the number of
    rows, the ids of each row, and the source of every row by its place.

    ## Why is this bad?
    A chunk that was cut short, or made by another version of a script, shifts what a checkpoint has seen, or gives it
    other data than its neighbours; without downloading terabytes nobody notices.

    ## Example
    `train/train_017.jsonl` begins with 4,000 rows of `c4`, all others with 40,670 rows of `arxiv`.

    ## Remedy
    Make the file again with the script that made the others; where it is meant to differ, give it a corpus of its own.

    ## Seen in practice
    All 360 chunks of Amber have the same number of rows, and the same source at every row: that is how one can tell
    that a chunk is whole. Its own checks looked at single lines; the published script of K2 shuffles 32 of 360 chunks.
    """

    code = "DAT008"
    name = "chunk-unlike-siblings"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Files that have siblings."""
        return sum(len(found.files) for _, _, found in _families(release))

    def unseen(self, release: ReleaseView) -> int:
        """Those of them outside the sample, where the level looks at footers or rows."""
        closest = {"parquet": EvidenceLevel.HASHED, "jsonl": EvidenceLevel.LOADED}
        count = 0
        for corpus, _, found in _families(release):
            level = closest.get(corpus.row.format) if corpus.row is not None else None
            if level is not None and release.level.includes(level):
                chosen = {file.name for file in release.sampled(found.files, lambda file: file.name)}
                count += sum(file.name not in chosen for file in found.files)
        return count

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file that differs, with the first difference."""
        read = (
            {scan.corpus.name: scan for scan in scans(release)} if release.level.includes(EvidenceLevel.LOADED) else {}
        )
        for corpus, files, found in _families(release):
            problems = dict(_unlike_in_size(corpus, files, found.files)) | dict(_repeats(release, files, found.files))
            if (
                release.level.includes(EvidenceLevel.HASHED)
                and corpus.row is not None
                and corpus.row.format == "parquet"
            ):
                rows = _rows_by_footer(release, found.files)
                problems |= dict(_unlike_in_rows(rows, files, found.files[-1].name))
            if corpus.name in read and corpus.row is not None and corpus.row.format == "jsonl":
                problems |= _unlike_in_content(read[corpus.name], files)
            for file in found.files:
                if file.name in problems:
                    message = f"'{file.name}' {problems[file.name]}"
                    fix = "make it again as the others were made"
                    yield self.finding(file.path or file.url or found.place, file.name, message, fix)


def _families(release: ReleaseView) -> list[tuple[Corpus, FileSet, CorpusFiles]]:
    """Corpora with several files by one pattern: files of a list are as different as they please."""
    return [
        (corpus, files, found)
        for _, corpus, files in declared_files(release)
        if files.pattern is not None and (found := files_of(release, corpus)) is not None and len(found.files) > 1
    ]


Problems = Iterator[tuple[str, str]]


def _repeats(release: ReleaseView, files: FileSet, found: tuple[DataFile, ...]) -> Problems:
    """Files with the bytes of one before them, by the listing; those that are declared to repeat are let be."""
    owners: dict[str, str] = {}
    for file in found:
        if release.foreign is None or file.path is None or not file.bytes:
            continue
        listed, inside = release.foreign.locate(file.path)
        digest = listed.files[inside].sha256 or listed.files[inside].git_id
        if digest is not None and not any(f"/{file.name}".endswith(f"/{name}") for name in files.repeated):
            owner = owners.setdefault(digest, file.name)
            if owner != file.name:
                yield file.name, f"holds the bytes of '{owner}'"


def _unlike_in_size(corpus: Corpus, files: FileSet, found: tuple[DataFile, ...]) -> Problems:
    if corpus.row is None or files.bytes is not None:
        return  # declared sizes are another rule's
    sizes = {file.name: file.bytes for file in found[:-1] if file.bytes is not None}
    if corpus.row.format in RAW_FORMATS and files.rows is None:
        usual = _usual(list(sizes.values()))
        for name, size in sizes.items():
            if usual is not None and size != usual:
                yield name, f"has {size} bytes, nearly all of its siblings have {usual}"
    if corpus.row.format == "jsonl" and files.rows is not None:
        sizes |= {file.name: file.bytes for file in found[-1:] if file.bytes is not None}
        middle = median(sizes.values()) if len(sizes) >= FEWEST_SIBLINGS else None
        for name, size in sizes.items():
            if middle is not None and abs(size - middle) > LIKE * middle:
                yield name, f"has {size} bytes, its siblings with as many rows have about {middle:.0f}"


def _usual(values: list[int]) -> int | None:
    """What nearly all of many values are, None when there is no such value."""
    if len(values) < FEWEST_SIBLINGS:
        return None
    value, times = Counter(values).most_common(1)[0]
    return value if times >= MAJORITY * len(values) else None


def _rows_by_footer(release: ReleaseView, found: tuple[DataFile, ...]) -> dict[str, int | str]:
    """Rows of Parquet files (of a sample), or what is wrong with their footers."""
    rows: dict[str, int | str] = {}
    for number, file in enumerate(chosen := release.sampled(found, lambda file: file.name), 1):
        if file.bytes is None:
            continue
        try:
            rows[file.name] = parquet_footer(release, file).layout.rows
        except ChunkFileError as error:
            rows[file.name] = error.problem
        except (AddressError, TargetError):
            continue
        if release.progress is not None:
            release.progress(number, len(chosen), file.name.rsplit("/", 1)[-1])
    return rows


def _unlike_in_rows(rows: Mapping[str, int | str], files: FileSet, last: str | None) -> Problems:
    """Files with another number of rows than declared, or than nearly all others; the `last` may hold fewer."""
    counts = {name: count for name, count in rows.items() if isinstance(count, int) and name != last}
    usual = files.rows if files.rows is not None else _usual(list(counts.values()))
    for name, count in rows.items():
        if isinstance(count, str):
            yield name, f"cannot be read: {count}"
        elif usual is not None and name in counts and count != usual:
            told = "declared are" if files.rows is not None else "nearly all of its siblings hold"
            yield name, f"holds {count} rows, {told} {usual}"


def _unlike_in_content(scan: CorpusScan, files: FileSet) -> dict[str, str]:
    """The first difference of each file of JSON lines that was read."""
    found: dict[str, str] = {}
    whole = {one.file.name: one.rows for one in scan.scans if one.rows is not None}
    found |= dict(_unlike_in_rows(whole, files, None))
    for at_end in (False, True):
        for name, problem in _unlike_in_sources(scan.scans, at_end):
            found.setdefault(name, problem)
    return {one.file.name: one.problem for one in scan.scans if one.problem is not None} | found


def _unlike_in_sources(scanned: tuple[FileScan, ...], at_end: bool) -> Problems:
    """Files whose rows, by their place, are of other sources than those of their siblings.

    It speaks only when more than half of the files agree in every row: rows that were shuffled have no such places.
    """
    labels = {one.file.name: one.last if at_end else one.first for one in scanned}
    labels = {name: sources for name, sources in labels.items() if any(sources)}
    if len(labels) < FEWEST_SIBLINGS - 1:
        return
    usual = [Counter(column).most_common(1)[0][0] for column in _columns(list(labels.values()))]
    unlike = [name for name, sources in labels.items() if any(a != b for a, b in zip(sources, usual, strict=False))]
    if 2 * len(unlike) >= len(labels):
        return
    for name in unlike:
        where = "ends (backwards)" if at_end else "begins"
        length = len(labels[name])
        yield name, f"{where} with rows of {_blocks(labels[name])}, its siblings with {_blocks(usual[:length])}"


def _columns(rows: list[list[str | None]]) -> Iterator[list[str | None]]:
    """What stands at each place of all rows that are so long."""
    for at in range(max(map(len, rows))):
        yield [row[at] for row in rows if at < len(row)]


def _blocks(sources: list[str | None]) -> str:
    """Blocks of one source: `4 x arxiv, 6 x c4`."""
    blocks = [f"{len(list(rows))} x {label}" for label, rows in groupby(sources)]
    return ", ".join(blocks[:4]) + ", …" * (len(blocks) > 4)
