"""`open360 rules [CODE]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open360.release.cli.options import json_option

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from open360.release.rules import Rule


@click.command("rules")
@click.argument("code", required=False, metavar="[CODE]")
@json_option
def command(code: str | None, as_json: bool) -> None:
    """List the rules, or explain the rule CODE (or name): why it is bad, an example, the remedy, the real case.

    \b
    open360 rules
    open360 rules CKP003
    open360 rules repeated-weights --json
    """
    from open360.release.reports.rule_texts import rule_facts
    from open360.release.rules import RULES
    from open360.schema.serialization import canonical_json

    chosen = [rule for rule in RULES if code is None or code.upper() == rule.code or code.lower() == rule.name]
    if not chosen:
        known = ", ".join(rule.code for rule in RULES)
        raise click.UsageError(f"no rule is called {code!r} (expected one of: {known})")
    if as_json:
        click.echo(canonical_json([rule_facts(rule) for rule in chosen]).decode(), nl=False)
    elif code is None:
        click.echo(_table(chosen))
    else:
        click.echo(_explanation(chosen[0]))


def _table(rules: list[Rule]) -> str:
    """The rules by sector, a line each."""
    from open360.release.findings import Sector
    from open360.release.reports.rule_texts import rule_text

    width = max(len(rule.name) for rule in rules)
    lines = []
    for sector in Sector:
        lines += [f"{sector}"]
        lines += [
            f"  {rule.code}  {rule.severity:<8}{rule.level:<10}{rule.name:<{width}}  {rule_text(rule).summary}"
            for rule in rules
            if rule.sector is sector
        ]
    lines += ["", f"{len(rules)} rules; 'open360 rules CODE' explains one."]
    return "\n".join(lines)


def _explanation(rule: Rule) -> str:
    from open360.release.reports.rule_texts import rule_text

    text = rule_text(rule)
    facts = [
        ("severity", str(rule.severity)),
        ("sector", str(rule.sector)),
        ("a claim on each", str(rule.part)),
        ("looks at level", str(rule.level)),
        ("requires", ", ".join(sorted(rule.requires)) or "nothing"),
    ]
    lines = [f"{rule.code} {rule.name}", "", text.summary, ""]
    lines += [f"  {name:<15}  {value}" for name, value in facts]
    for title, body in text.sections:
        lines += ["", title, "", *(f"  {line}".rstrip() for line in body.splitlines())]
    return "\n".join(lines)
