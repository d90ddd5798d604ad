"""`open360 validate TARGET`."""

from __future__ import annotations

from pathlib import Path

import click

from open360.release.cli.options import endpoint_option, tag_option, target_argument

LEVELS = ("declared", "listed", "hashed", "loaded")
SEVERITIES = ("error", "warning", "note")


@click.command("validate")
@target_argument
@click.option(
    "--level",
    type=click.Choice(LEVELS),
    default=None,
    help="How closely to look [default: loaded for a folder, listed for the Hub].",
)
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    default="error",
    show_default=True,
    help="Lowest severity that makes the exit code 1.",
)
@click.option(
    "--format", "style", type=click.Choice(("text", "json", "github", "sarif")), default="text", show_default=True
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to a file.")
@click.option("--spec", type=click.Path(dir_okay=False, path_type=Path), help="Judge the repositories by this spec.")
@click.option(
    "--save-draft",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the spec by which a foreign release was judged (a guess where the catalogue has none) to a file.",
)
@click.option(
    "--sample",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of chunks, checkpoints and addresses that is looked at where looking costs much.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the sample.")
@tag_option
@endpoint_option
@click.pass_context
def command(
    ctx: click.Context,
    target: str,
    level: str | None,
    fail_on: str,
    style: str,
    output: Path | None,
    spec: Path | None,
    save_draft: Path | None,
    sample: float,
    seed: int,
    tag: str | None,
    endpoint: str | None,
) -> None:
    """Judge the release at TARGET against its spec and manifest.

    Exit code 0 when nothing at or above --fail-on was found, 1 otherwise, 2 when the spec cannot be read.
    """
    from open360.release.cli.output import write_output
    from open360.release.cli.progress import bar
    from open360.release.findings import EvidenceLevel, Sample, Severity
    from open360.release.foreign_target import ForeignTarget
    from open360.release.opening import open_any_target
    from open360.release.reporters import REPORTERS
    from open360.release.targets import FolderTarget
    from open360.release.validation import validate

    opened = open_any_target(target, tag=tag, spec=spec, endpoint=endpoint)
    if save_draft is not None and isinstance(opened, ForeignTarget):
        write_output(save_draft, opened.document.data)
    if level is None:
        level = "loaded" if isinstance(opened, FolderTarget) else "listed"
    with bar("validating") as progress:
        report = validate(
            opened,
            level=EvidenceLevel[level.upper()],
            progress=progress,
            sample=Sample(share=sample, seed=seed),
        )
    text = REPORTERS[style](report)
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        write_output(output, text.encode())
    limit = Severity(fail_on)
    if any(finding.code == "SPC001" for finding in report.findings):
        ctx.exit(2)
    ctx.exit(1 if any(finding.severity.is_at_least(limit) for finding in report.findings) else 0)
