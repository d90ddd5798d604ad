"""Reports as text: for people, for programs (JSON), for GitHub's annotations, for code scanning (SARIF 2.1.0).

The content is that of the report alone, so equal reports give equal texts. Characters that would steer a terminal are
shown as escapes: messages may quote what a hostile release says.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import io
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from open360.release.findings import Finding, Report, Severity, SkippedRule, WaivedFinding
from open360.release.rules import RULES
from open360.schema.serialization import canonical_json

STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
GITHUB_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def json_report(report: Report) -> str:
    """The report as canonical JSON, with the version of its envelope."""
    return canonical_json(report.model_dump(mode="json")).decode()


def parse_report(text: str | bytes) -> Report:
    """The report of `json_report`: `parse_report(json_report(r)) == r`."""
    return Report.model_validate_json(text)


def text_report(report: Report, *, color: bool = False) -> str:
    """The report for people: each finding with its fix, what was skipped and waived, and the counts at the end."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=color, no_color=not color, width=10_000, highlight=False)
    for finding in report.findings:
        console.print(_line_of(finding), soft_wrap=True)
        console.print(Text(f"  fix: {printable(finding.fix)}", style="dim"), soft_wrap=True)
    for waived in report.waived:
        console.print(_line_of(waived.finding, waived), soft_wrap=True)
    by_reason: dict[str, list[str]] = {}
    for rule in report.skipped:
        by_reason.setdefault(rule.reason, []).append(f"{rule.code} {rule.name}")
    for reason, names in by_reason.items():
        line = f"skipped {', '.join(names)}, because {printable(reason)}"
        console.print(Text(line, style="dim"), soft_wrap=True)
    console.print(Text(_summary(report)), soft_wrap=True)
    return out.getvalue()


def _line_of(finding: Finding, waived: WaivedFinding | None = None) -> Text:
    line = Text()
    line.append(printable(str(finding.location)), style="bold")
    line.append(": ")
    line.append("waived" if waived is not None else str(finding.severity), style=STYLES[finding.severity])
    line.append(f" {finding.code} {printable(finding.text)}")
    if waived is not None:
        line.append(f" (accepted in the spec: {printable(waived.reason)})", style="dim")
    return line


def _summary(report: Report) -> str:
    counts = ", ".join(_plural(report.count(severity), str(severity)) for severity in Severity)
    parts = [counts]
    if report.waived:
        parts.append(f"{len(report.waived)} waived")
    if report.skipped:
        parts.append(f"{_plural(len(report.skipped), 'rule')} skipped")
    name = f"{report.release} {report.version}: " if report.release is not None else ""
    lines = [f"{name}{', '.join(parts)}.", f"Evidence level '{report.level}': {_looked_at(report)}."]
    if report.findings:
        lines.append(f"'open360 rules {report.findings[0].code}' explains a rule.")
    return "\n".join(lines)


def _looked_at(report: Report) -> str:
    checked = report.checked
    parts = [f"{_plural(checked.rules, 'rule')} checked"]
    amounts = [
        (checked.listed_files, "file", "listed"),
        (checked.hashed_files, "file", f"hashed ({checked.hashed_bytes:,} bytes)"),
        (checked.chunks, "chunk", f"read ({checked.rows:,} rows)"),
        (checked.checkpoints, "checkpoint", f"read ({checked.tensors:,} tensors)"),
    ]
    return ", ".join([*parts, *(f"{_plural(count, noun)} {done}" for count, noun, done in amounts if count)])


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def printable(text: str) -> str:
    """`text` with everything that is not printable as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def github_report(report: Report) -> str:
    """Workflow commands that GitHub shows beside the lines of a change."""
    lines = []
    for finding in report.findings:
        place = {"file": finding.location.path, "line": finding.location.line, "col": finding.location.column}
        place["title"] = f"{finding.code} {finding.name}"
        properties = ",".join(f"{key}={_property(str(value))}" for key, value in place.items() if value is not None)
        text = _data(f"{finding.text}\nfix: {finding.fix}")
        lines.append(f"::{GITHUB_COMMANDS[finding.severity]} {properties}::{text}")
    lines.append(printable(_summary(report).splitlines()[0]))
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    return printable(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def sarif_report(report: Report) -> str:
    """SARIF 2.1.0 (OASIS standard); waived findings are results with a suppression."""
    found: list[tuple[Finding, WaivedFinding | None]] = [(finding, None) for finding in report.findings]
    found += [(waived.finding, waived) for waived in report.waived]
    run = {
        "tool": {"driver": _sarif_driver()},
        "originalUriBaseIds": {"RELEASE": {"description": {"text": "the root of the release"}}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [_sarif_notification(rule) for rule in report.skipped],
            }
        ],
        "results": [_sarif_result(finding, waived) for finding, waived in found],
        "properties": {"release": report.release, "version": report.version, "level": str(report.level)},
    }
    return canonical_json({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}).decode()


def _sarif_driver() -> dict[str, Any]:
    rules = []
    for rule in RULES:
        text = inspect.getdoc(rule) or rule.name
        first, _, rest = text.partition("\n")
        entry = {
            "id": rule.code,
            "name": rule.name,
            "shortDescription": {"text": first},
            "fullDescription": {"text": first},
            "help": {"text": rest.strip() or first, "markdown": rest.strip() or first},
            "defaultConfiguration": {"level": str(rule.severity)},
        }
        rules.append(entry)
    return {"name": "open360", "version": importlib.metadata.version("open360"), "rules": rules}


def _sarif_notification(rule: SkippedRule) -> dict[str, Any]:
    return {
        "level": "note",
        "message": {"text": f"skipped, because {rule.reason}"},
        "associatedRule": {"id": rule.code},
    }


def _sarif_result(finding: Finding, waived: WaivedFinding | None) -> dict[str, Any]:
    location = finding.location
    place: dict[str, Any] = {
        "artifactLocation": {"uri": urllib.parse.quote(location.path), "uriBaseId": "RELEASE"},
    }
    if location.line is not None:
        place["region"] = {"startLine": location.line, "startColumn": location.column or 1}
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": str(finding.severity),
        "message": {"text": f"{finding.text}\nfix: {finding.fix}"},
        "locations": [{"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": finding.subject}]}],
    }
    if waived is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": waived.reason}]
    return result


REPORTERS: Mapping[str, Callable[[Report], str]] = {
    "text": text_report,
    "json": json_report,
    "github": github_report,
    "sarif": sarif_report,
}
