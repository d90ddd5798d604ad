"""Workflow commands that GitHub shows beside the lines of a change."""

from __future__ import annotations

from open360.release.findings import Finding, Report, Severity
from open360.release.reports.dial import degrees_text, dial_of, level_text
from open360.release.reports.report_words import counts_text, groups_of, printable, title_of

COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}


def github_report(report: Report) -> str:
    """One annotation for each finding, the gravest first (GitHub shows ten of a kind), and the dial as a notice.

    Findings of a release that is not in the checkout name their place in the text.
    """
    is_here = report.target == "."
    lines = [_annotation(finding, is_here) for group in groups_of(report.findings) for finding in group.findings]
    level = level_text(report.level, report.sample)
    dial = f"{degrees_text(dial_of(report).degrees)} of 360°, looked at level {level}"
    lines.append(f"::notice title=open360::{_data(f'{title_of(report)}: {dial}')}")
    lines.append(printable(f"{title_of(report)}: {counts_text(report)}."))
    return "\n".join(lines) + "\n"


def _annotation(finding: Finding, is_here: bool) -> str:
    location = finding.location
    place: dict[str, str | int | None] = {"title": f"{finding.code} {finding.name}"}
    text = f"{finding.text}\nfix: {finding.fix}"
    if is_here:
        place = {"file": location.path, "line": location.line, "col": location.column, **place}
    else:
        text = f"{location}: {text}"
    properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
    return f"::{COMMANDS[finding.severity]} {properties}::{_data(text)}"


def _data(text: str) -> str:
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
