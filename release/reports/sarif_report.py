"""The report as SARIF 2.1.0 (OASIS standard), for code scanning; waived findings are results with a suppression."""

from __future__ import annotations

import importlib.metadata
import urllib.parse
from typing import Any

from open360.release.findings import Finding, Report, SkippedRule, WaivedFinding
from open360.release.reports.dial import dial_of
from open360.release.reports.report_words import printable
from open360.release.reports.rule_texts import rule_text
from open360.release.rules import RULES
from open360.schema.serialization import canonical_json

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif_report(report: Report) -> str:
    """The report as SARIF."""
    found: list[tuple[Finding, WaivedFinding | None]] = [(finding, None) for finding in report.findings]
    found += [(waived.finding, waived) for waived in report.waived]
    run = {
        "tool": {"driver": _driver()},
        "originalUriBaseIds": {"RELEASE": {"description": {"text": "the root of the release"}}},
        "invocations": [
            {
                "executionSuccessful": True,
                "toolExecutionNotifications": [_notification(rule) for rule in report.skipped],
            }
        ],
        "results": [_result(finding, waived) for finding, waived in found],
        "properties": _properties(report),
    }
    return canonical_json({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}).decode()


def _properties(report: Report) -> dict[str, Any]:
    return {
        "release": report.release,
        "version": report.version,
        "target": report.target,
        "level": str(report.level),
        "sample": report.sample.model_dump(mode="json"),
        "specOrigin": report.spec_origin,
        "specIsGuess": report.spec_is_guess,
        "degrees": dial_of(report).degrees,
        "modelClass": report.openness.model_class if report.openness is not None else None,
    }


def _driver() -> dict[str, Any]:
    rules = []
    for rule in RULES:
        text = rule_text(rule)
        body = "\n\n".join(f"## {title}\n{section}" for title, section in text.sections) or text.summary
        entry = {
            "id": rule.code,
            "name": rule.name,
            "shortDescription": {"text": text.summary},
            "fullDescription": {"text": text.summary},
            "help": {"text": body, "markdown": body},
            "defaultConfiguration": {"level": str(rule.severity)},
            "properties": {"sector": str(rule.sector), "level": str(rule.level), "part": str(rule.part)},
        }
        rules.append(entry)
    return {"name": "open360", "version": importlib.metadata.version("open360"), "rules": rules}


def _notification(rule: SkippedRule) -> dict[str, Any]:
    return {
        "level": "note",
        "message": {"text": _text(f"skipped, because {rule.reason}")},
        "associatedRule": {"id": rule.code},
    }


def _result(finding: Finding, waived: WaivedFinding | None) -> dict[str, Any]:
    location = finding.location
    place: dict[str, Any] = {
        "artifactLocation": {"uri": urllib.parse.quote(location.path), "uriBaseId": "RELEASE"},
    }
    if location.line is not None:
        place["region"] = {"startLine": location.line, "startColumn": location.column or 1}
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "level": str(finding.severity),
        "message": {"text": f"{_text(finding.text)}\nfix: {_text(finding.fix)}"},
        "locations": [{"physicalLocation": place, "logicalLocations": [{"fullyQualifiedName": finding.subject}]}],
    }
    if waived is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": printable(waived.reason)}]
    return result


def _text(text: str) -> str:
    r"""A message without links: `[a](b)` in it would be one, so brackets are escaped (SARIF 2.1.0, 3.11.6)."""
    text = printable(text)
    return text.replace("[", "\\[").replace("]", "\\]") if "](" in text else text
