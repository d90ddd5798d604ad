"""Validation: run the rules on a target, in the order of what they require, and report.

A rule passes, fails, or is skipped with a reason: because it needs closer evidence than was asked for, because a rule
that it requires found an error, or because it cannot be checked here. No flag weakens a rule: what an author accepts
is a waiver in the spec, and the report shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter
from itertools import islice

from open360.release.findings import (
    Checked,
    EvidenceLevel,
    Finding,
    Outcome,
    Report,
    Sample,
    Severity,
    SkippedRule,
    WaivedFinding,
)
from open360.release.foreign_target import ForeignTarget
from open360.release.listed_view import Progress
from open360.release.reports.dial import dial_of
from open360.release.reports.openness_evidence import openness_of
from open360.release.rules import RULES, CannotCheckError, Rule
from open360.release.rules.rule import MANIFEST_THERE, SPEC_READ, DoesNotApplyError
from open360.release.targets import FolderTarget, Target
from open360.release.view import ReleaseView
from open360.schema.spec import ReleaseSpec, Waiver

MAX_FINDINGS_OF_A_RULE = 1000
# Rules that compare refs, commits, names and licences with what a draft took from the same place.
READ_OFF_THE_LISTING = frozenset({"CKP001", "CKP016", "HUB001", "HUB002", "HUB006", "LIC004"})
MAX_COUNTED_FINDINGS = 100_000


def validate(
    target: Target,
    *,
    level: EvidenceLevel,
    rules: Iterable[Rule] = RULES,
    progress: Progress | None = None,
    sample: Sample = Sample(),  # noqa: B008
) -> Report:
    """Judge a release by `rules`, looking as closely as `level` allows.

    What is wrong in the release becomes findings, also a spec or manifest that cannot be read.

    Raises:
        HubError: the Hub cannot be reached.
        OSError: the disk fails while the release is listed.
    """
    release = ReleaseView(target, level, progress, sample)
    found: list[Finding] = []
    outcomes: list[Outcome] = []
    skipped: list[SkippedRule] = []
    unmet: dict[str, CannotCheckError] = {}  # rules that cannot be built upon, each with the reason
    chosen = in_order(rules)
    for rule in chosen:
        why = _why_skipped(rule, release, unmet)
        if why is None:
            try:
                findings, outcome = _check(rule, release)
            except CannotCheckError as error:
                why = unmet[rule.code] = error
            else:
                outcomes.append(outcome)
                found += findings
                if any(finding.severity is Severity.ERROR for finding in findings):
                    unmet[rule.code] = CannotCheckError(f"{rule.code} found errors")
        elif rule.requires & unmet.keys():
            unmet[rule.code] = why
        if why is not None:
            skipped.append(_skipped(rule, why))
    name, version = release.title
    kept, waived = apply_waivers(found, release.readable_spec)
    report = Report(
        target="." if isinstance(target, FolderTarget) else target.label,
        release=name,
        version=version,
        level=level,
        sample=sample,
        spec_origin=target.document.origin if isinstance(target, ForeignTarget) else None,
        spec_is_guess=isinstance(target, ForeignTarget) and target.document.is_guess,
        findings=tuple(sorted(kept, key=Finding.sort_key)),
        outcomes=tuple(sorted(outcomes, key=lambda outcome: outcome.code)),
        skipped=tuple(sorted(skipped, key=lambda rule: rule.code)),
        waived=tuple(sorted(waived, key=lambda entry: entry.finding.sort_key())),
        checked=Checked(rules=len(chosen) - len(skipped), **release.counts),
        openness=openness_of(release, found),
    )
    return report.model_copy(update={"dial": dial_of(report)})


def in_order(rules: Iterable[Rule]) -> list[Rule]:
    """`rules` and all that they require, each after what it requires, else by code."""
    known = {rule.code: rule for rule in RULES} | {rule.code: rule for rule in rules}
    wanted: dict[str, Rule] = {}
    waiting = [rule.code for rule in rules]
    while waiting:
        rule = known[waiting.pop()]
        if rule.code not in wanted:
            wanted[rule.code] = rule
            waiting += rule.requires
    sorter = TopologicalSorter({code: rule.requires for code, rule in wanted.items()})
    sorter.prepare()
    ordered: list[Rule] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [wanted[code] for code in ready]
        sorter.done(*ready)
    return ordered


def _why_skipped(rule: Rule, release: ReleaseView, unmet: dict[str, CannotCheckError]) -> CannotCheckError | None:
    """Why a rule is not checked. One whose requirements all do not apply does not apply either."""
    if release.foreign is not None and release.foreign.document.is_guess:
        if rule.level is EvidenceLevel.DECLARED and rule.code not in (SPEC_READ, MANIFEST_THERE):
            return DoesNotApplyError("the spec is a guess: what it leaves out says nothing of the release")
        if rule.code in READ_OFF_THE_LISTING:
            return DoesNotApplyError("the spec is a guess made of the listing: comparing the two says nothing")
    above = [unmet[code] for code in sorted(rule.requires & unmet.keys())]
    if above:
        reasons = list(dict.fromkeys(error.reason for error in above))
        reason = ", ".join(r for r in reasons if not any(r != other and r in other for other in reasons))
        applies = not all(isinstance(error, DoesNotApplyError) for error in above)
        return CannotCheckError(reason) if applies else DoesNotApplyError(reason)
    if not release.level.includes(rule.level):
        return CannotCheckError(f"level '{release.level}' does not look so closely: it needs level '{rule.level}'")
    return None


def _skipped(rule: Rule, why: CannotCheckError) -> SkippedRule:
    applies = not isinstance(why, DoesNotApplyError)
    return SkippedRule(code=rule.code, name=rule.name, sector=rule.sector, reason=why.reason, applies=applies)


def _check(rule: Rule, release: ReleaseView) -> tuple[list[Finding], Outcome]:
    """Findings of a rule, and what it came to. A note breaks no claim; a thing with several findings breaks one; a
    thing that was not looked at does not hold.

    Of a rule with very many findings the first are kept, and the last of those says so; beyond what is counted, all
    claims of the rule are broken.
    """
    findings: list[Finding] = []
    broken: set[str] = set()
    count = 0
    for count, finding in enumerate(islice(rule.check(release), MAX_COUNTED_FINDINGS), start=1):
        if count <= MAX_FINDINGS_OF_A_RULE:
            findings.append(finding)
        if finding.severity is not Severity.NOTE:
            broken.add(finding.subject)
    if count > MAX_FINDINGS_OF_A_RULE:
        note = f"{findings[-1].message} (and more: the first {MAX_FINDINGS_OF_A_RULE} are shown)"
        findings[-1] = findings[-1].model_copy(update={"message": note})
    claims = max(rule.claims(release), len(broken))
    broken_claims = claims if count == MAX_COUNTED_FINDINGS else len(broken)
    outcome = Outcome(
        code=rule.code,
        name=rule.name,
        sector=rule.sector,
        level=rule.level,
        part=rule.part,
        claims=claims,
        broken=broken_claims,
        unseen=max(min(rule.unseen(release), claims - broken_claims), 0),
    )
    return findings, outcome


def apply_waivers(found: list[Finding], spec: ReleaseSpec | None) -> tuple[list[Finding], list[WaivedFinding]]:
    """Findings that stay, and those that the spec accepts.

    A waiver counts for the releases dated up to its `until`, so that the same release always gives the same report.
    """
    kept: list[Finding] = []
    waived: list[WaivedFinding] = []
    for finding in found:
        waiver = _waiver_of(finding, spec) if spec is not None else None
        if waiver is None:
            kept.append(finding)
        else:
            until = waiver.until.isoformat() if waiver.until is not None else None
            waived.append(WaivedFinding(finding=finding, reason=waiver.reason, until=until))
    return kept, waived


def _waiver_of(finding: Finding, spec: ReleaseSpec) -> Waiver | None:
    for waiver in spec.waivers:
        outdated = waiver.until is not None and (spec.date is None or spec.date > waiver.until)
        if waiver.rule == finding.code and waiver.subject in (None, finding.subject) and not outdated:
            return waiver
    return None
