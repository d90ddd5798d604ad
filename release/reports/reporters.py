"""The forms of a report: text for people, HTML, JSON for programs, GitHub's annotations, SARIF for code scanning.

The content is that of the report alone, so equal reports give equal texts. Characters that would steer a terminal are
shown as escapes: messages may quote what a hostile release says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from open360.release.findings import Report
from open360.release.reports.github_report import github_report
from open360.release.reports.html_report import html_report
from open360.release.reports.report_words import printable
from open360.release.reports.sarif_report import sarif_report
from open360.release.reports.text_report import text_report
from open360.schema.serialization import canonical_json

__all__ = [
    "REPORTERS",
    "github_report",
    "html_report",
    "json_report",
    "parse_report",
    "printable",
    "sarif_report",
    "text_report",
]


def json_report(report: Report) -> str:
    """The report as canonical JSON, with the version of its envelope; `report.schema.json` describes it."""
    return canonical_json(report.model_dump(mode="json")).decode()


def parse_report(text: str | bytes) -> Report:
    """The report of `json_report`: `parse_report(json_report(r)) == r`."""
    return Report.model_validate_json(text)


REPORTERS: Mapping[str, Callable[[Report], str]] = {
    "text": text_report,
    "html": html_report,
    "json": json_report,
    "github": github_report,
    "sarif": sarif_report,
}
