"""Findings: what a validation found, as data. Reporters turn it into text; nothing here reads or writes.

* Lines and columns count from 1; pointers are RFC 6901.
* A report holds no time, no host and no absolute path, and is sorted: equal releases give equal bytes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from open360.release.quoted import Quoted
from open360.release.reports.openness import Openness
from open360.schema.model import ManifestModel

REPORT_VERSION: Literal[1] = 1


class Severity(StrEnum):
    """`error` blocks publishing, `warning` is shown and may be made fatal, `note` informs."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def is_at_least(self, limit: Severity) -> bool:
        """Whether this is as grave as `limit`, or graver."""
        order = list(Severity)
        return order.index(self) <= order.index(limit)


class EvidenceLevel(StrEnum):
    """How much was looked at: the two documents; the listing; all bytes; their content; training run again."""

    DECLARED = "declared"
    LISTED = "listed"
    HASHED = "hashed"
    LOADED = "loaded"
    REPLAYED = "replayed"

    def includes(self, other: EvidenceLevel) -> bool:
        """Whether this level looks at all that `other` looks at."""
        order = list(EvidenceLevel)
        return order.index(self) >= order.index(other)


class Sector(StrEnum):
    """The parts of openness: sectors of the dial."""

    DATA = "data"
    CODE = "code and configuration"
    CHECKPOINTS = "checkpoints"
    METRICS = "metrics and analyses"
    LINEAGE = "lineage and licences"


class Part(StrEnum):
    """What a rule says something of: it makes one claim for each thing of this kind."""

    RELEASE = "release"
    RUN = "run"
    CHECKPOINT = "checkpoint"
    CHUNK = "chunk"
    CORPUS = "corpus"
    SOURCE = "source"
    FILE = "file"
    REPOSITORY = "repository"
    EVALUATION = "evaluation"
    LICENCE = "licence"
    STATEMENT = "statement"


class Location(ManifestModel):
    """A place in a release: a file of it, and where that is known the line, the column and the JSON pointer."""

    path: Quoted
    line: int | None = None
    column: int | None = None
    pointer: Quoted = ""

    def __str__(self) -> str:
        place = self.path
        if self.line is not None:
            place += f":{self.line}" if self.column is None else f":{self.line}:{self.column}"
        return place

    def sort_key(self) -> tuple[tuple[int | str, ...], int, int, str]:
        """Order by file, then by place in it; numbers in the path count as numbers (`step900` before `step1000`)."""
        parts = re.split(r"([0-9]{1,18})", self.path)
        path = tuple(int(part) if index % 2 else part for index, part in enumerate(parts))
        return (path, self.line or 0, self.column or 0, self.pointer)


class Finding(ManifestModel):
    """One violation of one rule.

    `subject` is the name of the thing (a checkpoint, a file, a source): what a waiver is matched with.
    """

    code: str
    name: str
    severity: Severity
    location: Location
    subject: Quoted
    message: Quoted
    fix: Quoted

    @property
    def text(self) -> str:
        """The message, after the name of the thing where neither it nor the place says it."""
        told = self.subject in self.message or self.subject in (self.location.path, self.location.pointer)
        return self.message if told else f"{self.subject}: {self.message}"

    def sort_key(self) -> tuple[tuple[tuple[int | str, ...], int, int, str], tuple[str, ...]]:
        """Order of findings in a report: by place, then by code."""
        return (
            self.location.sort_key(),
            (self.code, self.subject, self.message, self.name, self.severity, self.fix),
        )


class SkippedRule(ManifestModel):
    """A rule that was not checked, with the reason: neither passed nor failed.

    `applies` is false where the release makes no claim of the kind, so that nothing was left out.
    """

    code: str
    name: str
    sector: Sector
    reason: Quoted
    applies: bool = True


class WaivedFinding(ManifestModel):
    """A finding that the spec accepts, with the author's reason."""

    finding: Finding
    reason: Quoted
    until: str | None = None


class Outcome(ManifestModel):
    """What a rule that was checked came to, at `level`: of `claims` things that it is about, `broken` have a finding.

    `unseen` of the others were not looked at: they are not there or not intact, outside the sample, or out of reach.
    """

    code: str
    name: str
    sector: Sector
    level: EvidenceLevel
    part: Part
    claims: int = Field(ge=0)
    broken: int = Field(ge=0)
    unseen: int = Field(default=0, ge=0, description="claims that are neither broken nor were looked at")

    @property
    def held(self) -> int:
        """Claims that were looked at, and hold."""
        return max(self.claims - self.broken - self.unseen, 0)


class Sample(ManifestModel):
    """The share of things that was looked at where looking costs much, and the seed that chose them."""

    share: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0


class Checked(ManifestModel):
    """How much was looked at."""

    rules: int = 0
    listed_files: int = 0
    hashed_files: int = 0
    hashed_bytes: int = 0
    chunks: int = 0
    rows: int = 0
    checkpoints: int = 0
    tensors: int = 0


class Arc(ManifestModel):
    """A sector of the dial: of its 72 degrees `held` is drawn; the three shares add up to 1.

    `rules` were checked on `claims` things, of which `broken_claims` have a finding and `unseen_claims` were not looked
    at; `skipped` rules did not look.
    """

    sector: Sector
    held: float = Field(ge=0, le=1)
    broken: float = Field(ge=0, le=1)
    unseen: float = Field(ge=0, le=1, description="share that was not looked at; 1 where there is no rule")
    rules: int = Field(ge=0)
    skipped: int = Field(ge=0)
    claims: int = Field(ge=0)
    broken_claims: int = Field(ge=0)
    unseen_claims: int = Field(default=0, ge=0)


class Dial(ManifestModel):
    """How much of a release holds, of 360 degrees, at the level looked at. Made by `dial_of`."""

    degrees: float = Field(ge=0, le=360)
    arcs: tuple[Arc, ...]


class Report(ManifestModel):
    """All findings of one validation. `target` is `.` for a folder: every location is relative to it."""

    report_version: Literal[1] = Field(default=REPORT_VERSION, description="version of this envelope")
    target: Quoted
    release: Quoted | None
    version: Quoted | None
    level: EvidenceLevel
    sample: Sample = Sample()
    spec_origin: Quoted | None = Field(
        default=None,
        description="where the spec is from, when it is not the release's own: the catalogue, a file, a guess",
    )
    spec_is_guess: bool = Field(default=False, description="the spec is a draft that nobody has looked through")
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...] = ()
    skipped: tuple[SkippedRule, ...]
    waived: tuple[WaivedFinding, ...]
    checked: Checked
    dial: Dial | None = Field(default=None, description="what outcomes and skipped rules come to, as a dial")
    openness: Openness | None = Field(
        default=None, description="components of the Model Openness Framework, with its class; and OSAID's elements"
    )

    def count(self, severity: Severity) -> int:
        """Number of findings of one severity."""
        return sum(finding.severity is severity for finding in self.findings)

    def below(self, folder: str) -> Report:
        """The same report with its places as seen from a folder above, in which the release lies as `folder`."""
        return self.model_copy(
            update={
                "findings": tuple(_below(folder, finding) for finding in self.findings),
                "waived": tuple(
                    waived.model_copy(update={"finding": _below(folder, waived.finding)}) for waived in self.waived
                ),
            }
        )


def _below(folder: str, finding: Finding) -> Finding:
    place = finding.location.model_copy(update={"path": f"{folder}/{finding.location.path}"})
    return finding.model_copy(update={"location": place})
