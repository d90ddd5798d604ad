"""What a rule is: a check with a stable code whose documentation is its docstring.

A code never changes its meaning and is never used again. A name says what is bad, not what to do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from open360.release.findings import EvidenceLevel, Finding, Location, Severity
from open360.release.view import ReleaseView

SPEC_READ = "SPC001"
MANIFEST_THERE = "SPC003"
MANIFEST_READ = "SPC004"
BOTH = frozenset({SPEC_READ, MANIFEST_THERE, MANIFEST_READ})


class CannotCheckError(Exception):
    """Raised by a check that cannot be made here; the rule is then skipped with this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Rule(ABC):
    """A check. `level` is the evidence it needs; it runs when the rules of `requires` found no error."""

    code: ClassVar[str]
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR
    level: ClassVar[EvidenceLevel] = EvidenceLevel.DECLARED
    requires: ClassVar[frozenset[str]] = BOTH

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
