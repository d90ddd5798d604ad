"""`open360 publish FOLDER`."""

from __future__ import annotations

import re
from pathlib import Path

import click

from open360.release.cli.options import dry_run_option, endpoint_option, json_option


@click.command("publish")
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--delete", is_flag=True, help="Allow that strange files in the repositories are deleted.")
@click.option("--to", metavar="ORG", help="Namespace that replaces that of every repository.")
@click.option("--private", is_flag=True, help="Make new repositories private.")
@dry_run_option
@json_option
@endpoint_option
def command(
    folder: Path, delete: bool, to: str | None, private: bool, dry_run: bool, as_json: bool, endpoint: str | None
) -> None:
    """Publish the built release in FOLDER [default: here] to the Hub, or go on with what was begun.

    The release is validated first; errors refuse the publication (exit code 1). A version becomes visible with its
    tag, which is set last. The Hub's token is taken from HF_TOKEN or from `hf auth login`.
    """
    from rich.console import Console

    from open360.release.cli.progress import bar
    from open360.release.findings import EvidenceLevel, Severity
    from open360.release.hub import Hub
    from open360.release.plan_text import plan_table
    from open360.release.publishing import publish
    from open360.release.reports.reporters import text_report
    from open360.release.targets import FolderTarget
    from open360.release.validation import validate
    from open360.schema.names import NAME_PATTERN
    from open360.schema.serialization import canonical_json

    if to is not None and not re.fullmatch(NAME_PATTERN, to):
        raise click.BadParameter(f"expected a user or organisation of the Hub, found '{to}'", param_hint="--to")
    with bar("validating") as progress:
        report = validate(FolderTarget(folder), level=EvidenceLevel.LOADED, progress=progress)
    errors = sum(finding.severity is Severity.ERROR for finding in report.findings)
    if errors:
        click.echo(text_report(report), err=True)
    with bar("publishing") as progress:
        result = publish(
            folder,
            Hub(endpoint),
            to=to,
            dry_run=dry_run,
            private=private,
            delete=delete,
            report_errors=errors,
            progress=progress,
        )
    if as_json:
        click.echo(canonical_json(result.plan.as_json()).decode(), nl=False)
    else:
        Console().print(plan_table(result.plan))
    if result.changed and result.manifest is not None:
        click.echo(
            f"published {result.plan.primary.id} at {result.plan.tag}; next: open360 validate {result.plan.primary.id}",
            err=True,
        )
    elif not dry_run:
        click.echo(f"{result.plan.primary.id} at {result.plan.tag} is complete already; nothing was changed", err=True)
