"""The report as text for people: findings by rule, what was skipped, claims, the dial, the classes of openness."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from open360.release.findings import Finding, Report, Sector, Severity
from open360.release.reports.dial import arc_text, degrees_text, dial_of
from open360.release.reports.openness import Openness
from open360.release.reports.report_words import (
    FindingGroup,
    claims_by_sector,
    claims_text,
    counts_text,
    groups_of,
    looked_at_text,
    not_applicable,
    origin_text,
    plural,
    printable,
    sample_text,
    skipped_by_reason,
    title_of,
    waivers_of,
)

SHOWN = 10
STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_WIDTH_OF_SECTORS = max(len(sector) for sector in Sector)


def text_report(report: Report, *, color: bool = False, every: bool = False) -> str:
    """The report for people. At most `SHOWN` findings of a rule are shown, unless `every` one is asked for."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=color, no_color=not color, width=10_000, highlight=False)
    page = _Page(console, None if every else SHOWN)
    page.findings(report)
    page.skipped(report)
    page.claims(report)
    page.dial(report)
    if report.openness is not None:
        page.openness(report.openness)
    page.summary(report)
    return out.getvalue()


class _Page:
    def __init__(self, console: Console, shown: int | None) -> None:
        self.console, self.shown = console, shown

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(printable(text), style=style), soft_wrap=True)

    def findings(self, report: Report) -> None:
        sectors = {outcome.code: outcome.sector for outcome in report.outcomes}
        for group in groups_of(report.findings):
            self._heading(group, str(group.severity), sectors.get(group.code))
            self._listed(group.findings, with_fix=group.fix is None)
            if group.fix is not None:
                self.line(f"  fix: {group.fix}", "dim")
            self.line()
        for (_, _, reason, until), waived in waivers_of(report).items():
            findings = tuple(entry.finding for entry in waived)
            (group, *_) = groups_of(findings)
            self._heading(group, "waived", sectors.get(group.code))
            self._listed(findings, with_fix=False)
            self.line(f"  accepted in the spec: {reason}" + (f" (until {until})" if until else ""), "dim")
            self.line()

    def _heading(self, group: FindingGroup, word: str, sector: Sector | None) -> None:
        heading = Text(printable(f"{group.code} {group.name}: "), style="bold")
        heading.append(f"{word}, {plural(len(group.findings), 'finding')}", style=STYLES[group.severity])
        if sector is not None:
            heading.append(f" ({sector})", style="dim")
        self.console.print(heading, soft_wrap=True)

    def _listed(self, findings: Sequence[Finding], *, with_fix: bool) -> None:
        for finding in findings[: self.shown]:
            self.line(f"  {finding.location}: {finding.text}")
            if with_fix:
                self.line(f"    fix: {finding.fix}", "dim")
        if self.shown is not None and len(findings) > self.shown:
            self.line(f"  … and {len(findings) - self.shown:,} more: --all shows them", "dim")

    def skipped(self, report: Report) -> None:
        reasons = skipped_by_reason(report)
        if reasons:
            self.line("Not looked at", "bold")
            for reason, rules in reasons.items():
                self.line(f"  {', '.join(f'{rule.code} {rule.name}' for rule in rules)}")
                self.line(f"    because {reason}", "dim")
            self.line()

    def claims(self, report: Report) -> None:
        sectors = claims_by_sector(report)
        outcomes = [outcome for found in sectors.values() for outcome in found]
        if not outcomes:
            return
        width = max(len(printable(outcome.name)) for outcome in outcomes)
        self.line("Claims, and the level at which each was looked at", "bold")
        for sector, found in sectors.items():
            if found:
                self.line(f"  {sector}")
            for outcome in found:
                line = f"    {outcome.code} {outcome.name:<{width}}  {outcome.level:<8}  {claims_text(outcome)}"
                self.line(line, "red" if outcome.broken else "")
        idle = not_applicable(report)
        if idle:
            self.line(f"  nothing to look at: {', '.join(f'{outcome.code} {outcome.name}' for outcome in idle)}", "dim")
        self.line()

    def dial(self, report: Report) -> None:
        dial = dial_of(report)
        self.line(f"Dial: {degrees_text(dial.degrees)} of 360°, looked at level {report.level}", "bold")
        for arc in dial.arcs:
            self.line(f"  {arc.sector:<{_WIDTH_OF_SECTORS}}  {arc_text(arc)}")
        self.line()

    def openness(self, openness: Openness) -> None:
        self.line(f"{openness.framework}: {openness.class_text}", "bold")
        for component in openness.lacking():
            self.line(f"  {component.name}: {component.status}, {component.because}")
        self.line("Open Source AI Definition 1.0", "bold")
        for element in openness.osaid:
            lacks = f": lacks {', '.join(element.lacks)}" if element.lacks else ""
            self.line(f"  {element.name:<16}  {element.verdict}{lacks}")
        self.line(f"  {openness.note}", "dim")
        self.line()

    def summary(self, report: Report) -> None:
        for text in (origin_text(report), sample_text(report)):
            if text is not None:
                self.line(text)
        self.line(looked_at_text(report))
        if report.findings:
            self.line(f"'open360 rules {groups_of(report.findings)[0].code}' explains a rule.")
        self.line(f"{title_of(report)}: {counts_text(report)}.", "bold")
