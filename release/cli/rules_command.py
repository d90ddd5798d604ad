"""`open360 rules [CODE]`."""

from __future__ import annotations

import inspect

import click

from open360.release.cli.options import json_option


@click.command("rules")
@click.argument("code", required=False)
@json_option
def command(code: str | None, as_json: bool) -> None:
    """List the rules, or explain the rule CODE: why it is bad, an example, the remedy, the real case behind it."""
    from open360.release.rules import RULES
    from open360.schema.serialization import canonical_json

    chosen = [rule for rule in RULES if code is None or rule.code == code.upper()]
    if not chosen:
        known = ", ".join(rule.code for rule in RULES)
        raise click.UsageError(f"no rule is called '{code}' (expected one of: {known})")
    if as_json:
        facts = [
            {
                "code": rule.code,
                "name": rule.name,
                "severity": rule.severity.value,
                "level": rule.level.name.lower(),
                "requires": sorted(rule.requires),
                "text": inspect.getdoc(rule) or "",
            }
            for rule in chosen
        ]
        click.echo(canonical_json(facts).decode(), nl=False)
    elif code is None:
        for rule in chosen:
            first = (inspect.getdoc(rule) or "").splitlines()[0]
            click.echo(f"{rule.code}  {rule.severity.value:<8}{rule.level.name.lower():<10}{rule.name:<28}{first}")
    else:
        rule = chosen[0]
        click.echo(f"{rule.code} {rule.name} ({rule.severity.value}, looks at level {rule.level.name.lower()})\n")
        click.echo(inspect.getdoc(rule) or "")
