"""Rules about stored orders: the index file is there, belongs to the data, and is a permutation."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.evidence.addresses import Unreachable
from open360.release.evidence.order_files import IndexContent, OrderFile, content_of, declared_rows, order_files
from open360.release.findings import EvidenceLevel, Finding, Part
from open360.release.listed_view import CannotCheckError
from open360.release.order.spans import OrderError
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView

MIN_HEADER_BYTES = 64  # of a NumPy file


def _has_orders(release: ReleaseView) -> bool:
    return any(run.order.kind == "permutation-file" for run in release.spec.all_runs())


class OrderFileMissing(Rule):
    """The file that holds the training order is not there.

    ## What it does
    Looks for the declared index file: in the listing of its repository (all three maps of a NeoX sampler), or at its
    address. A host that does not answer says nothing.

    ## Why is this bad?
    Without it nobody can say which rows a step saw, though all the data may be there.

    ## Example
    `order: {kind: permutation-file, url: https://…/global_indices.npy}`, and the address answers 404.

    ## Remedy
    Publish the file again, in a repository that keeps it, with its sha256. When it is lost, say so: `kind: unknown`.

    ## Seen in practice
    The index file of OLMo was taken down because a newer model was thought better, uploaded again in another size, and
    in the end could not be recovered.
    """

    code = "ORD003"
    name = "order-file-missing"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Index files that could be looked for."""
        files = order_files(release) if _has_orders(release) else []
        return sum(file.is_there or file.is_missing for file in files)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        files = order_files(release) if _has_orders(release) else []
        states = [file.state for file in files]
        if files and all(isinstance(state, Unreachable) for state in states):
            reason = next(state.reason for state in states if isinstance(state, Unreachable))
            raise CannotCheckError(f"no order file can be reached: {reason}")
        for file in files:
            if file.is_missing:
                message = f"the order file '{file.name}' of run '{file.run.name}' is not there"
                fix = "publish it again, or declare 'kind: unknown' with the reason"
                yield self.finding(file.name, file.name, message, fix)


class OrderFileSize(Rule):
    """The file that holds the training order is not the one that was declared, by its size or digest.

    ## What it does
    Compares the size of an index file with its declared number of entries, and that with the rows of the data: a raw
    one has four bytes an entry and one entry a row (a last batch that is not full may be left out). Compares its sha256
    with the declared one: as listed, or at level `loaded` over its bytes.

    ## Why is this bad?
    An index file that was made for other data, or made again, names other rows for each step; nothing else shows it.

    ## Example
    A file of 3,500,000,000 bytes for 1,425,000,000 entries.

    ## Remedy
    Publish the file that the run was trained with, and declare its `entries` and `sha256`.

    ## Seen in practice
    OLMo's index file had 5.7 GB; the one uploaded after it was deleted had 3.5 GB. Another one named row 925,801,835 of
    a data set of 925,201,012 rows.
    """

    code = "ORD004"
    name = "order-file-size"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Index files with a known size."""
        files = order_files(release) if _has_orders(release) else []
        return sum(file.holds_indices and file.bytes is not None for file in files)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        for file in order_files(release) if _has_orders(release) else []:
            problem = _problem_of_size(release, file) or _problem_of_digest(release, file)
            if problem is not None:
                message = f"the order file of run '{file.run.name}' {problem}"
                fix = "publish the file that the run was trained with; declare its entries and sha256"
                yield self.finding(file.name, file.name, message, fix)


def _problem_of_size(release: ReleaseView, file: OrderFile) -> str | None:
    size, stated = file.bytes, file.order.entries
    if size is None or not file.holds_indices:
        return None
    if file.part == "shuffle":  # longer than declared where the sampler planned whole epochs
        if stated is not None and size < MIN_HEADER_BYTES + 4 * stated:
            return f"has {size} bytes, expected at least {MIN_HEADER_BYTES + 4 * stated} for {stated} entries"
        return None
    if stated is not None and size != 4 * stated:
        return f"has {size} bytes, expected {4 * stated} for {stated} entries"
    rows = declared_rows(release, file.run)
    if size % 4:
        return f"has {size} bytes, expected four for each entry"
    if rows is None:
        return None
    batch = max(value for _, value in file.run.batch.root) if file.run.batch is not None else 1
    if not rows - batch < size // 4 <= rows:
        return f"holds {size // 4} entries, the data {rows} rows"
    return None


def _problem_of_digest(release: ReleaseView, file: OrderFile) -> str | None:
    declared = file.order.sha256
    if declared is None or not file.holds_indices or not file.is_there:
        return None
    found = release.listing[file.path].sha256 if file.path is not None else None
    if found is None and release.level.includes(EvidenceLevel.LOADED):
        content = _content(release, file)
        found = content.sha256 if content is not None and content.check.is_sound else None
    return f"has another sha256 than declared: {found}" if found not in (None, declared) else None


def _content(release: ReleaseView, file: OrderFile) -> IndexContent | None:
    """What is in an index file; None when that cannot be read."""
    try:
        return content_of(release, file)
    except OrderError:
        return None


class NoPermutation(Rule):
    """The file that holds the training order is no permutation.

    ## What it does
    Reads every entry of an index file, with one bit of memory for each row: none may occur twice. Of the three maps of
    a NeoX sampler it reads the one that shuffles.

    ## Why is this bad?
    By such a file some rows were never trained on and others many times, which is not what happened: the file is
    damaged, and what it says of any step is wrong.

    ## Example
    An index file whose entries are 0, but for the first 8 percent.

    ## Remedy
    Upload the file again, compare its sha256 with that of the file that the trainer used, and declare it.

    ## Seen in practice
    The shuffling index of one of Pythia's seeds consists of zeros for 92 percent; it lay on the Hub for years.
    """

    code = "ORD005"
    name = "no-permutation"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Index files that were read."""
        return len(_read_files(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        unread = []
        for file in _index_files(release):
            try:
                check = content_of(release, file).check
            except OrderError as error:
                unread.append(error)
                continue
            if check.repeated:
                zeros = f", {100 * check.zeros / check.taken:.0f} percent are zeros" if check.zeros > 1 else ""
                message = (
                    f"{check.repeated} of the {check.taken} entries of '{file.name}' repeat another one{zeros}: "
                    f"it is no permutation"
                )
                yield self.finding(file.name, file.name, message, "upload the file of the trainer again")
        if unread and not _read_files(release):
            raise CannotCheckError(str(unread[0]))


class OrderBeyondData(Rule):
    """The training order names rows that the data does not have.

    ## What it does
    Reads every entry of an index file (in the pass that looks for repeated ones) and compares the highest with the
    rows of the data, as declared or by the sizes of its files; where these are not known, with the number of entries.
    Files that are too long for the data as a whole are another rule's.

    ## Why is this bad?
    Order and data do not belong together: one of them is not the one that was trained with.

    ## Example
    Row 925,801,835 of a data set of 925,201,012 rows.

    ## Remedy
    Publish order and data of the same run, each with its sha256.

    ## Seen in practice
    Looking up a batch of OLMo ended with "925801835 is out of bounds for dataset of size 925201012".
    """

    code = "ORD006"
    name = "order-beyond-data"
    level = EvidenceLevel.LOADED
    requires = frozenset({SPEC_READ})
    part = Part.FILE

    def claims(self, release: ReleaseView) -> int:
        """Index files that were read."""
        return len(_read_files(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file."""
        for file in _read_files(release):
            content = content_of(release, file)
            highest, limit = content.check.highest, content.check.limit
            rows = declared_rows(release, file.run) if file.part == "indices" else None
            if highest >= limit and (rows is None or content.entries <= rows):
                message = f"'{file.name}' names row {highest}, the data has {limit} rows"
                yield self.finding(file.name, file.name, message, "publish order and data of the same run")


def _index_files(release: ReleaseView) -> list[OrderFile]:
    """Index files that are there and are meant to be permutations."""
    files = order_files(release) if _has_orders(release) else []
    return [file for file in files if file.is_there and file.holds_indices]


def _read_files(release: ReleaseView) -> list[OrderFile]:
    return [file for file in _index_files(release) if _content(release, file) is not None]
