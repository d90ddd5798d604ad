"""`open360 catalogue [NAME]`."""

from __future__ import annotations

import click

from open360.release.cli.options import json_option


@click.command("catalogue")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the releases whose specs open360 knows, or print the spec of one as YAML."""
    from open360.release import catalogue
    from open360.schema.serialization import dump_json, dump_yaml

    if name is None:
        for known in catalogue.names():
            spec = catalogue.load(known)
            runs = spec.all_runs()
            kinds = ", ".join(sorted({run.order.kind for run in runs}))
            click.echo(f"{known:<16}{len(runs):>3} runs   order: {kinds}")
        return
    found = catalogue.find(name)
    if found is None:
        raise click.UsageError(f"the catalogue has no '{name}' (expected one of: {', '.join(catalogue.names())})")
    spec = catalogue.load(found)
    click.echo((dump_json(spec) if as_json else dump_yaml(spec)).decode(), nl=False)
