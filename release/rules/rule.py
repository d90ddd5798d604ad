"""What a rule is: a check with a stable code whose documentation is its docstring.

A code never changes its meaning and is never used again. A name says what is bad, not what to do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from open360.release.findings import EvidenceLevel, Finding, Location, Part, Sector, Severity
from open360.release.listed_view import CannotCheckError, DoesNotApplyError
from open360.release.view import ReleaseView

__all__ = ["BOTH", "CannotCheckError", "DoesNotApplyError", "Rule"]

SPEC_READ = "SPC001"
MANIFEST_THERE = "SPC003"
MANIFEST_READ = "SPC004"
BOTH = frozenset({SPEC_READ, MANIFEST_THERE, MANIFEST_READ})


SECTORS = {
    "SPC": Sector.CODE,
    "COD": Sector.CODE,
    "RUN": Sector.CODE,
    "DAT": Sector.DATA,
    "ORD": Sector.DATA,
    "CKP": Sector.CHECKPOINTS,
    "INT": Sector.CHECKPOINTS,
    "MET": Sector.METRICS,
    "LIC": Sector.LINEAGE,
    "HUB": Sector.LINEAGE,
}


class Rule(ABC):
    """A check. `level` is the evidence it needs; it runs when the rules of `requires` found no error.

    A rule makes a claim about each thing of the kind `part` (see `claims`); a finding's `subject` names the thing.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR
    level: ClassVar[EvidenceLevel] = EvidenceLevel.DECLARED
    requires: ClassVar[frozenset[str]] = BOTH
    part: ClassVar[Part] = Part.RELEASE

    @property
    def sector(self) -> Sector:
        """The sector of the dial that the rule's claims belong to."""
        return SECTORS[self.code[:3]]

    def claims(self, release: ReleaseView) -> int:
        """Number of things that the rule is about; asked for after `check`. 0: there is nothing of the kind here."""
        return release.count_of(self.part)

    def unseen(self, release: ReleaseView) -> int:  # noqa: ARG002
        """How many of them, without a finding, it did not look at: not there, not intact, outside the sample."""
        return 0

    @abstractmethod
    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """Yield a finding for each violation, nothing when all is well. May raise CannotCheckError."""

    def finding(self, at: Location | str, subject: str, message: str, fix: str) -> Finding:
        """A finding of this rule; `at` is a place or the path of a file."""
        return Finding(
            code=self.code,
            name=self.name,
            severity=self.severity,
            location=Location(path=at) if isinstance(at, str) else at,
            subject=subject,
            message=message,
            fix=fix,
        )
