"""The report as one HTML page: it holds all that it needs, asks for nothing, and runs no script."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from open360.release.findings import Report, Severity
from open360.release.reports import report_words as words
from open360.release.reports.dial import DEGREES_OF_A_SECTOR, arc_text, degrees_text, dial_of
from open360.release.reports.dial_svg import STYLE, dial_svg
from open360.release.reports.openness import CLASS_NAMES
from open360.release.reports.rule_texts import RuleText, rule_text
from open360.release.reports.text_report import SHOWN
from open360.release.rules import RULES

TEMPLATE = "report.html.jinja"


def html_report(report: Report) -> str:
    """The report as a page. Everything that it quotes stays text: escaped, and without characters that steer."""
    dial = dial_of(report)
    return _template().render(
        report=report,
        words=words,
        severities=[(severity, report.count(severity)) for severity in Severity],
        dial=dial,
        dial_svg=Markup(dial_svg(dial, report.level)),  # noqa: S704  made by us, of numbers and of our own words
        dial_style=Markup(STYLE),  # noqa: S704
        degrees_text=degrees_text,
        arc_text=arc_text,
        sector_degrees=DEGREES_OF_A_SECTOR,
        groups=words.groups_of(report.findings),
        documents=_documents(),
        sectors={outcome.code: outcome.sector for outcome in report.outcomes},
        class_names=CLASS_NAMES,
        shown=SHOWN,
    )


@cache
def _documents() -> dict[str, RuleText]:
    return {rule.code: rule_text(rule) for rule in RULES}


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_steering,
    )
    environment.filters["paragraphs"] = paragraphs
    return environment.from_string(resources.files(__package__).joinpath(TEMPLATE).read_text("utf-8"))


def _without_steering(value: Any) -> Any:
    return words.printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def paragraphs(text: str) -> Iterator[list[tuple[bool, str]]]:
    """Paragraphs of a rule's documentation, each as pieces `(is code, text)`: backticks set code apart."""
    for paragraph in text.split("\n\n"):
        pieces = " ".join(paragraph.split()).split("`")
        yield [(bool(number % 2), piece) for number, piece in enumerate(pieces) if piece]
