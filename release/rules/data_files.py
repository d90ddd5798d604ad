"""Rules about published data files, judged by the listing: there, and of the declared size."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from open360.release.evidence.addresses import AddressError
from open360.release.evidence.foreign_data import (
    MAX_LIST_BYTES,
    CorpusFiles,
    declared_files,
    files_of,
    names_in_list,
    row_bytes,
    with_sizes,
)
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.order.spans import Shards, rows_of_stream
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, FileSet

MAX_SHOWN = 3


def shown(names: list[str] | tuple[str, ...]) -> str:
    """The first few of many."""
    return ", ".join(f"'{name}'" for name in names[:MAX_SHOWN]) + ", …" * (len(names) > MAX_SHOWN)


class DataFileSize(Rule):
    """A data file has another size than the spec declares.

    ## What it does
    Compares the listed size of every data file (at plain addresses: the stated size of the sampled ones) with the
    declared bytes, or with rows times bytes of a row where ids are stored raw; their sum with the declared rows.

    ## Why is this bad?
    Where a row lies is computed from these sizes. A file that is shorter or longer shifts every row after it.

    ## Example
    `document-00007-of-00020.bin` of 29,999,997,952 bytes, declared are 30,000,000,000.

    ## Remedy
    Upload the file again, or correct the declaration.

    ## Seen in practice
    A range of OLMo's data that should hold 16,384 bytes returned 7,170; an index pointed to row 925,801,835 of a data
    set of 925,201,012.
    """

    code = "DAT005"
    name = "data-file-size"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Files with a known size, of corpora that declare one."""
        return sum(
            sum(file.bytes is not None for file in found.files)
            for _, _, files, found in _published(release)
            if _expected(found.corpus, files, "") is not None
        )

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file, else one for the sum."""
        for index, corpus, files, found in _published(release):
            wrong = False
            for file in found.files:
                expected = _expected(corpus, files, file.name)
                if file.bytes is not None and expected is not None and file.bytes not in expected:
                    wrong = True
                    about = f"'{file.name}' has {file.bytes} bytes, declared are {expected.start}"
                    fix = "upload the file again, or correct what 'files' declares"
                    yield self.finding(file.path or file.url or found.place, file.name, about, fix)
            if not wrong and found.is_whole:
                yield from self._check_sum(release, f"/corpora/{index}/files/total_rows", found, files)

    def _check_sum(self, release: ReleaseView, at: str, found: CorpusFiles, files: FileSet) -> Iterator[Finding]:
        size = row_bytes(found.corpus)
        if size is None or files.total_rows is None:
            return
        stored = found.stored()
        is_stream = found.corpus.row is not None and found.corpus.row.format == "bin"
        rows = rows_of_stream(stored, size) if is_stream else Shards(stored, size).rows
        if rows != files.total_rows:
            message = f"its files hold {rows} rows, declared are {files.total_rows}"
            fix = "upload the files again, or correct 'total_rows'"
            yield self.finding(release.place(at), found.corpus.name, message, fix)


def _published(release: ReleaseView) -> Iterator[tuple[int, Corpus, FileSet, CorpusFiles]]:
    """Corpora whose files can be looked at, with sizes; at addresses of a sample only."""
    for index, corpus, files in declared_files(release):
        found = files_of(release, corpus)
        if found is None:
            continue
        if _expected(corpus, files, "") is not None:
            found = with_sizes(release, found, release.sampled(found.files, lambda file: file.name))
        yield index, corpus, files, found


def _expected(corpus: Corpus, files: FileSet, name: str) -> range | None:
    """Sizes that a file may have, None when nothing is declared."""
    is_last = files.pattern is not None and files.count is not None and name == files.file(files.numbers()[-1])
    declared = files.last_bytes if is_last and files.last_bytes is not None else files.bytes
    if declared is not None:
        return range(declared, declared + 1)
    size = row_bytes(corpus)
    if size is None or files.rows is None or (is_last and files.total_rows is not None):
        return None
    is_stream = corpus.row is not None and corpus.row.format == "bin"
    return range(files.rows * size, files.rows * size + (1 if is_stream else size))


class DataFileMissing(Rule):
    """Declared data files are not there, or others are.

    ## What it does
    Compares the declared pattern and number of files with the listing of the data repository, both ways. A published
    list of files is compared with its declared digest, number, and the files that it is said to name twice.

    ## Why is this bad?
    A step whose rows lie in a missing file cannot be looked at; where the order is computed from the list of files, one
    file more or less changes every row of every batch.

    ## Example
    `train/train_017.jsonl` is declared, and is not in the repository.

    ## Remedy
    Upload what is missing, remove what does not belong there, or correct the declaration.

    ## Seen in practice
    OLMo 2 was trained on a list that names five files twice; the published table of provenance names each once, lacks
    one file and holds another. Data of a hybrid model was looked for below a path that differs by one segment.
    """

    code = "DAT010"
    name = "data-file-missing"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.CORPUS

    def claims(self, release: ReleaseView) -> int:
        """Corpora whose files could be looked at."""
        return sum(files_of(release, corpus) is not None for _, corpus, _ in declared_files(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each corpus and kind of difference."""
        for index, corpus, files in declared_files(release):
            found, at = files_of(release, corpus), f"/corpora/{index}/files"
            if found is None:
                continue
            if found.missing:
                count = f"{len(found.missing)} of {len(found.missing) + len(found.files)}"
                message = f"{count} declared data files are not in '{found.place}': {shown(found.missing)}"
                yield self.finding(release.place(at), corpus.name, message, "upload them, or correct 'files'")
            if found.extra:
                message = (
                    f"'{found.place}' holds {len(found.extra)} data files that are not declared: {shown(found.extra)}"
                )
                yield self.finding(release.place(at), corpus.name, message, "declare them, or remove them")
            if files.listed is not None:
                for problem in _problems_of_list(release, corpus, files):
                    message = f"the list of its files, {files.listed}, {problem}"
                    yield self.finding(release.place(f"{at}/listed"), corpus.name, message, "correct 'files'")


def _problems_of_list(release: ReleaseView, corpus: Corpus, files: FileSet) -> Iterator[str]:
    names = names_in_list(release, corpus)
    if not names or files.listed is None:
        return
    if files.listed_sha256 is not None:
        try:
            digest = hashlib.sha256(release.addresses.read(files.listed, MAX_LIST_BYTES)).hexdigest()
        except AddressError:
            return
        if digest != files.listed_sha256:
            yield f"is another one than was pinned: sha256 {digest}"
            return
    if files.count is not None and len(names) != files.count:
        yield f"names {len(names)} files, declared are {files.count}"
    repeated = [name for name, times in Counter(names).items() if times > 1]
    once = [name for name in files.repeated if not any(f"/{other}".endswith(f"/{name}") for other in repeated)]
    if once:
        yield f"does not name twice what it is said to: {shown(once)}"
