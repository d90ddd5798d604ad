"""Rules about what the cards on the Hub say of licences: the one of the spec, in front matter and text alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from open360.release.evidence.card_licenses import MAX_CARD_BYTES, front_matter, licenses_of, statements
from open360.release.findings import EvidenceLevel, Finding, Location, Part
from open360.release.hub_objects import Repo
from open360.release.license_expressions import license_ids
from open360.release.rules.licenses import LICENSE_UNKNOWN
from open360.release.rules.rule import SPEC_READ, CannotCheckError, Rule
from open360.release.survey import ListedRevision
from open360.release.view import ReleaseView

CARD = "README.md"
# Ids of the Hub that are not those of SPDX in small letters.
_OF_THE_HUB = {"odc-by-1.0": "odc-by", "odbl-1.0": "odbl"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """The card of a repository, and the licence that the spec gives to what lies there."""

    repo: Repo
    path: str
    data: bytes
    license: str | None


class CardLicenseDiffers(Rule):
    """The card of a repository names another licence than the spec.

    ## What it does
    Compares `license` in the front matter of the `README.md` of every model and data repository with the licence of
    the weights, or of the corpus or the data, in the spec.

    ## Why is this bad?
    The Hub shows the licence of the card, and people and programs act on it; only one of the two can be true.

    ## Example
    `license: mit` in the card, `licenses: {weights: Apache-2.0}` in the spec.

    ## Remedy
    Correct the card or the spec. Several licences are a list in the card (`license: [mit, bsd-3-clause]`).

    ## Seen in practice
    The data of CrystalCoder was under Apache-2.0 at first and under ODC-By later; which one a copy came under depends
    on its date.
    """

    code = "LIC004"
    name = "card-license-differs"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ, LICENSE_UNKNOWN})
    part = Part.REPOSITORY

    def claims(self, release: ReleaseView) -> int:
        """Cards that were compared."""
        return sum(card.license is not None for card in _cards(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each card."""
        for card in _cards(release):
            stated = licenses_of(front_matter(card.data) or {})
            if card.license is None or stated == {"other"} or _agree(stated, card.license):
                continue
            told = ", ".join(sorted(stated)) or "no licence"
            message = f"its front matter names {told}, the spec says {card.license}"
            fix = "correct the card ('license:' in its front matter), or the spec"
            yield self.finding(Location(path=card.path, line=1), card.repo.id, message, fix)


def _agree(stated: frozenset[str], expression: str) -> bool:
    """Whether the licences of a card are those of an SPDX expression; one of them is enough where it has a choice."""
    expected = frozenset(_hub_id(key) for key in license_ids(expression))
    slug = re.sub(r"[^a-z0-9.]+", "-", expression.casefold()).strip("-")
    stated = frozenset(_hub_id(name) for name in stated)
    chosen = bool(stated) and stated <= expected and re.search(r"\bOR\b", expression) is not None
    return stated == expected or chosen or stated == {slug}


def _hub_id(key: str) -> str:
    name = key.casefold().removeprefix("licenseref-").removesuffix("-only").removesuffix("-or-later")
    return _OF_THE_HUB.get(name, name)


class CardTextContradicts(Rule):
    """The text of a card names another licence than its front matter.

    ## What it does
    Looks in the card for headings, fields and sentences that state the licence of this very model or data set, and
    compares it with `license` in the front matter. Sentences about code, papers, sources or other models are left
    out, and so are those that name several licences.

    ## Why is this bad?
    Both are statements of the same owner in one file. Nobody can know which of them binds.

    ## Example
    `license: odc-by` in the front matter, and "We release this dataset under Apache 2.0." below.

    ## Remedy
    Decide, and write the same in both places.

    ## Seen in practice
    The card of AmberDatasets says `odc-by` in its front matter and "Apache 2.0" in its text.
    """

    code = "LIC005"
    name = "card-text-contradicts"
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})
    part = Part.REPOSITORY

    def claims(self, release: ReleaseView) -> int:
        """Cards with a licence."""
        return sum(bool(licenses_of(front_matter(card.data) or {})) for card in _cards(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each card."""
        for card in _cards(release):
            stated = frozenset(_hub_id(name) for name in licenses_of(front_matter(card.data) or {}))
            known = stated - {"other"}
            other = [statement for statement in statements(card.data) if _hub_id(statement.license) not in known]
            if known and other:
                first = other[0]
                named = ", ".join(sorted(known))
                message = f"its text says '{first.text[:160]}', its front matter {named}"
                fix = "decide, and write the same licence in both places"
                yield self.finding(Location(path=card.path, line=first.line), card.repo.id, message, fix)


def _cards(release: ReleaseView) -> list[Card]:
    """Cards of the repositories that can be read. Raises CannotCheckError for a folder."""
    found = []
    for repo, listed in _homes(release):
        file = listed.files.get(CARD) if listed is not None else None
        if listed is not None and file is not None and file.bytes <= MAX_CARD_BYTES:
            data = release.survey.read(listed, CARD, MAX_CARD_BYTES)
            path = f"{listed.root}/{CARD}"
            found.append(Card(repo=repo, path=path, data=data, license=_expected(release, repo)))
    if not found:
        raise CannotCheckError("no repository has a card that could be read")
    return found


def _homes(release: ReleaseView) -> Iterator[tuple[Repo, ListedRevision | None]]:
    """Repositories, each at the revision whose card speaks for the release."""
    if release.foreign is None:
        for repo in release.repositories:
            yield repo, release.survey.revision(repo, "main")
        return
    revisions = release.foreign.revisions
    for repo in release.foreign.model_repos:
        yield repo, revisions.get((repo, "main"))
    for repo, revision in release.foreign.data_repos:
        yield repo, revisions.get((repo, revision))


def _expected(release: ReleaseView, repo: Repo) -> str | None:
    """The licence that the spec gives to what lies in a repository."""
    licenses = release.spec.licenses
    if repo.type == "model":
        return licenses.weights
    for corpus in release.spec.corpora:
        if corpus.repository is not None and corpus.repository.dataset == repo.id and corpus.license is not None:
            return corpus.license
    return licenses.data
