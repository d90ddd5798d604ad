"""What every form of a report says alike: findings in groups, counts, where the spec is from, what was looked at.

Messages may quote what a hostile release says: forms for people pass each quoted text through `printable`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from open360.release.findings import Finding, Outcome, Part, Report, Sector, Severity, SkippedRule, WaivedFinding

_PLURALS = {Part.CORPUS: "corpora", Part.REPOSITORY: "repositories"}


def printable(text: str) -> str:
    """`text` with everything that is not printable as an escape: control characters, bidi marks, line breaks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plural(count: int, noun: str, several: str | None = None) -> str:
    """`1 rule`, `2,000 rules`; `several` is the plural where it is no mere s."""
    return f"{count:,} {noun if count == 1 else several or f'{noun}s'}"


@dataclass(frozen=True, kw_only=True)
class FindingGroup:
    """Findings of one rule and severity, in their order. `fix` is that of all of them, None when they differ."""

    code: str
    name: str
    severity: Severity
    findings: tuple[Finding, ...]

    @property
    def fix(self) -> str | None:
        """The fix, when one does for all."""
        return self.findings[0].fix if len({finding.fix for finding in self.findings}) == 1 else None


def groups_of(findings: Iterable[Finding]) -> list[FindingGroup]:
    """Findings by rule: errors first, then warnings, then notes; by code."""
    found: dict[tuple[int, str], list[Finding]] = {}
    order = list(Severity)
    for finding in findings:
        found.setdefault((order.index(finding.severity), finding.code), []).append(finding)
    return [
        FindingGroup(code=code, name=group[0].name, severity=group[0].severity, findings=tuple(group))
        for (_, code), group in sorted(found.items())
    ]


def waivers_of(report: Report) -> dict[tuple[str, str, str, str | None], list[WaivedFinding]]:
    """Waived findings by `(code, name, reason, until)`."""
    found: dict[tuple[str, str, str, str | None], list[WaivedFinding]] = {}
    for waived in report.waived:
        key = (waived.finding.code, waived.finding.name, waived.reason, waived.until)
        found.setdefault(key, []).append(waived)
    return found


def skipped_by_reason(report: Report) -> dict[str, list[SkippedRule]]:
    """Skipped rules, those with the same reason together."""
    found: dict[str, list[SkippedRule]] = {}
    for rule in report.skipped:
        found.setdefault(rule.reason, []).append(rule)
    return found


def claims_by_sector(report: Report) -> dict[Sector, list[Outcome]]:
    """Outcomes of the rules that had something to look at, in the order of the sectors."""
    return {
        sector: [outcome for outcome in report.outcomes if outcome.sector is sector and outcome.claims]
        for sector in Sector
    }


def not_applicable(report: Report) -> list[Outcome]:
    """Outcomes of rules that found nothing of their kind."""
    return [outcome for outcome in report.outcomes if not outcome.claims]


def claims_text(outcome: Outcome) -> str:
    """`358 of 360 checkpoints hold, 1 was not looked at`."""
    if outcome.part is Part.RELEASE and outcome.claims == 1:
        return "broken" if outcome.broken else "not looked at" if outcome.unseen else "holds"
    several = _PLURALS.get(outcome.part, f"{outcome.part}s")
    unseen = f", {outcome.unseen:,} {'was' if outcome.unseen == 1 else 'were'} not looked at" if outcome.unseen else ""
    verb = "holds" if outcome.claims == 1 else "hold"
    return f"{outcome.held:,} of {plural(outcome.claims, str(outcome.part), several)} {verb}{unseen}"


def title_of(report: Report) -> str:
    """Name and version of the release, and the target where that says more."""
    name = f"{report.release} {report.version}" if report.release is not None else "a release that cannot be read"
    return name if report.target == "." else f"{name}, {report.target}"


def counts_text(report: Report) -> str:
    """`1 error, 2 warnings, 0 notes, 1 waived, 3 rules skipped`."""
    parts = [plural(report.count(severity), str(severity)) for severity in Severity]
    if report.waived:
        parts.append(f"{len(report.waived):,} waived")
    if report.skipped:
        parts.append(f"{plural(len(report.skipped), 'rule')} skipped")
    return ", ".join(parts)


def looked_at_text(report: Report) -> str:
    """What was looked at, how closely."""
    checked = report.checked
    amounts = [
        (checked.listed_files, "file", "listed"),
        (checked.hashed_files, "file", f"hashed ({checked.hashed_bytes:,} bytes)"),
        (checked.chunks, "chunk", f"read ({checked.rows:,} rows)"),
        (checked.checkpoints, "checkpoint", f"read ({checked.tensors:,} tensors)"),
    ]
    told = [f"{plural(checked.rules, 'rule')} checked"]
    told += [f"{plural(count, noun)} {done}" for count, noun, done in amounts if count]
    return f"Evidence level '{report.level}': {', '.join(told)}."


def origin_text(report: Report) -> str | None:
    """By what the release was judged, when not by a spec of its own."""
    if report.spec_is_guess:
        return "Judged by a guess: no spec is known; '--save-draft FILE' writes it down, for a person to finish."
    return f"Judged by {report.spec_origin}." if report.spec_origin is not None else None


def sample_text(report: Report) -> str | None:
    """Which part was looked at, when not everything."""
    if report.sample.share >= 1:
        return None
    return (
        f"A sample: {report.sample.share:.4g} of what costs much to look at, chosen by seed {report.sample.seed} "
        f"('--sample {report.sample.share:.4g} --seed {report.sample.seed}' looks at the same again)."
    )
