"""The documentation of a rule in parts: its docstring, cut at the headings."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from open360.release.rules import Rule


@dataclass(frozen=True, kw_only=True)
class RuleText:
    """What is wrong, in a sentence; and the sections (`What it does`, …) with their text, in their order."""

    summary: str
    sections: tuple[tuple[str, str], ...]


def rule_text(rule: Rule) -> RuleText:
    """The documentation of `rule`."""
    head, *parts = f"\n{inspect.getdoc(rule) or rule.name}".split("\n## ")
    sections = []
    for part in parts:
        title, _, body = part.partition("\n")
        sections.append((title.strip(), body.strip()))
    return RuleText(summary=" ".join(head.split()), sections=tuple(sections))


def rule_facts(rule: Rule) -> dict[str, Any]:
    """A rule as plain data; the sections of its documentation are fields (`why_is_this_bad`, `remedy`, …)."""
    text = rule_text(rule)
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": str(rule.severity),
        "sector": str(rule.sector),
        "part": str(rule.part),
        "level": str(rule.level),
        "requires": sorted(rule.requires),
        "summary": text.summary,
        **{_field(title): body for title, body in text.sections},
    }


def _field(title: str) -> str:
    return "_".join("".join(c if c.isalnum() else " " for c in title.lower()).split())
