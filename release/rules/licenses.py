"""Rules about licences: all stated, all known to SPDX, none in contradiction."""

from __future__ import annotations

from collections.abc import Iterator

from open360.release.findings import Finding, Part
from open360.release.license_expressions import license_ids, unknown_ids
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView

LICENSE_MISSING, LICENSE_UNKNOWN = "LIC001", "LIC002"
PARTS = ("weights", "data", "code")
WITHOUT_CONDITIONS = frozenset({"CC0-1.0", "PDDL-1.0", "Unlicense", "0BSD", "MIT-0"})


def _declared(release: ReleaseView) -> Iterator[tuple[str, str, str | None]]:
    """`(pointer, whose, licence)` of everything that needs one."""
    licenses = release.spec.licenses
    for part in PARTS:
        yield f"/licenses/{part}", part, getattr(licenses, part)
    for index, corpus in enumerate(release.spec.corpora):
        for number, source in enumerate(corpus.sources):
            yield f"/corpora/{index}/sources/{number}/license", source.name, source.license


class LicenseMissing(Rule):
    """A part of the release has no licence.

    ## What it does
    Looks for the licences of weights, data and code, and of each source.

    ## Why is this bad?
    Without a licence nobody may lawfully use, change or pass on the thing.

    ## Example
    `licenses: {weights: Apache-2.0}`: data and code have none.

    ## Remedy
    Add the SPDX id: `licenses: {weights: Apache-2.0, data: ODC-By-1.0, code: Apache-2.0}`.

    ## Seen in practice
    The data repository of K2 had no card, and so no licence at all.
    """

    code = LICENSE_MISSING
    name = "license-missing"
    requires = frozenset({SPEC_READ})
    part = Part.LICENCE

    def claims(self, release: ReleaseView) -> int:
        """Things that need a licence."""
        return len(list(_declared(release)))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each thing without a licence."""
        for pointer, whose, found in _declared(release):
            if found is None:
                message = f"'{whose}' has no licence"
                fix = f"add '{pointer.rsplit('/', 1)[1]}: <SPDX id>', such as Apache-2.0 or ODC-By-1.0"
                yield self.finding(release.place(pointer), whose, message, fix)


class UnknownSpdxId(Rule):
    """A licence is no SPDX id or expression.

    ## What it does
    Reads every licence as an SPDX expression (SPDX 2.3, annex D). Ids of one's own begin with `LicenseRef-`.

    ## Why is this bad?
    A free text such as `Apache 2` or `open` can be read in several ways, by programs not at all.

    ## Example
    `data: odc-by`

    ## Remedy
    Write the id of https://spdx.org/licenses/: `data: ODC-By-1.0`.

    ## Seen in practice
    The same corpus was called `odc-by` in the header and "Apache 2.0" in the text of one card.
    """

    code = LICENSE_UNKNOWN
    name = "unknown-spdx-id"
    requires = frozenset({SPEC_READ})
    part = Part.LICENCE

    def claims(self, release: ReleaseView) -> int:
        """Licences that are stated."""
        return sum(found is not None for _, _, found in _stated(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each expression that SPDX cannot read."""
        for pointer, whose, found in _stated(release):
            unknown = unknown_ids(found) if found is not None else []
            if unknown:
                message = f"the licence of '{whose}' is no SPDX expression: {', '.join(unknown)} is unknown"
                fix = "write ids of https://spdx.org/licenses/, or 'LicenseRef-<name>' for one's own"
                yield self.finding(release.place(pointer), whose, message, fix)


def _stated(release: ReleaseView) -> Iterator[tuple[str, str, str | None]]:
    yield from _declared(release)
    yield "/licenses/documents", "documents", release.spec.licenses.documents
    for index, corpus in enumerate(release.spec.corpora):
        yield f"/corpora/{index}/license", corpus.name, corpus.license


class LicenseContradiction(Rule):
    """The licence of the data leaves out that of a source.

    ## What it does
    Compares the licence of the data (and of each corpus) with those of its sources: each licence of a source must be
    named in it, but for those without conditions (CC0, Unlicense, …).

    ## Why is this bad?
    Who relies on the licence of the whole breaks that of a part.

    ## Example
    `licenses: {data: MIT}` with a source under `CC-BY-NC-4.0`.

    ## Remedy
    Name all of them: `data: MIT AND CC-BY-NC-4.0`; or take the source out.

    ## Seen in practice
    AmberSafe was released under Apache-2.0, though its data came under a licence that forbids commercial use.
    """

    code = "LIC003"
    name = "license-contradiction"
    part = Part.SOURCE
    requires = frozenset({SPEC_READ, LICENSE_UNKNOWN})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each source whose licence is left out."""
        for index, corpus in enumerate(release.spec.corpora):
            whole = corpus.license or release.spec.licenses.data
            for number, source in enumerate(corpus.sources):
                left_out = license_ids(source.license or "") - license_ids(whole or "") - WITHOUT_CONDITIONS
                if whole is not None and left_out:
                    message = f"source '{source.name}' is under {source.license}, the data as a whole under {whole}"
                    fix = f"name it in the licence of the data: '{whole} AND {source.license}'"
                    place = release.place(f"/corpora/{index}/sources/{number}/license")
                    yield self.finding(place, source.name, message, fix)
