"""`open360 validate TARGET`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from open360.release.cli.options import endpoint_option, tag_option, target_argument

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from open360.release.findings import Report

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
    "--format",
    "style",
    type=click.Choice(("text", "html", "json", "github", "sarif")),
    default="text",
    show_default=True,
    help="For people: text, html (one page). For programs: json, github (annotations), sarif (2.1.0).",
)
@click.option("--all", "every", is_flag=True, help="Show every finding in the text, not ten of a rule.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report to a file.")
@click.option(
    "--badge", type=click.Path(dir_okay=False, path_type=Path), help="Write the dial as an SVG badge to a file, too."
)
@click.option(
    "--mof",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the components of the Model Openness Framework as the Model Openness Tool's mof.yml, too.",
)
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
    help="Share of files, records, checkpoints and addresses that is looked at where looking costs much.",
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
    every: bool,
    output: Path | None,
    badge: Path | None,
    mof: Path | None,
    spec: Path | None,
    save_draft: Path | None,
    sample: float,
    seed: int,
    tag: str | None,
    endpoint: str | None,
) -> None:
    """Judge the release at TARGET against its spec and manifest.

    TARGET is a folder that exists, ORG/NAME on the Hub (whoever made the release), or a name of the catalogue.
    Weights are downloaded at no level below 'hashed'.

    \b
    --level declared   spec and manifest alone
            listed     and what the listing shows: names, sizes, digests, small files
            hashed     and every byte, against the manifest
            loaded     and the content: tensors, chunks, traces

    Exit code 0 when nothing at or above --fail-on was found, 1 otherwise, 2 when the spec cannot be read, 3 when the
    Hub or the disk failed. docs/validation.md explains reports, the dial, samples and waivers.

    \b
    open360 validate .
    open360 validate EleutherAI/pythia-70m --format html -o report.html
    open360 validate my-org/my-lm --level loaded --sample 0.1 --seed 7
    """
    from open360.release.budget import known_budget
    from open360.release.cli.output import write_output
    from open360.release.cli.progress import bar
    from open360.release.findings import EvidenceLevel, Sample, Severity
    from open360.release.foreign_target import ForeignTarget
    from open360.release.opening import open_any_target
    from open360.release.reports.dial import dial_of
    from open360.release.reports.dial_svg import badge_svg
    from open360.release.reports.mof_file import mof_file
    from open360.release.targets import FolderTarget
    from open360.release.validation import validate
    from open360.schema.serialization import load_spec

    opened = open_any_target(target, tag=tag, spec=spec, endpoint=endpoint)
    if save_draft is not None and not isinstance(opened, ForeignTarget):
        raise click.UsageError("--save-draft writes the spec of a release that others made; this one has its own")
    if save_draft is not None and isinstance(opened, ForeignTarget):
        write_output(save_draft, opened.document.data)
    if level is None:
        level = "loaded" if isinstance(opened, FolderTarget) else "listed"
    budget = known_budget(opened) if level != "declared" else None
    if budget is not None:
        click.echo(budget, err=True)
    with bar("validating") as progress:
        report = validate(
            opened,
            level=EvidenceLevel[level.upper()],
            progress=progress,
            sample=Sample(share=sample, seed=seed),
        )
    if badge is not None:
        drawn = badge_svg(dial_of(report), report.level, is_guess=report.spec_is_guess, sample=report.sample)
        write_output(badge, drawn.encode())
    if mof is not None and report.openness is not None:
        write_output(mof, mof_file(load_spec(opened.spec_bytes(), opened.spec_path), report.openness))
    elif mof is not None:
        click.echo(f"{mof}: not written, since the spec cannot be read", err=True)
    folder = Path(target).as_posix()
    if style in ("github", "sarif") and isinstance(opened, FolderTarget) and not Path(target).is_absolute():
        report = report if folder == "." else report.below(folder)  # they are read from where the command runs
    _write_report(report, style, output, every=every)
    limit = Severity(fail_on)
    if any(finding.code == "SPC001" for finding in report.findings):
        ctx.exit(2)
    ctx.exit(1 if any(finding.severity.is_at_least(limit) for finding in report.findings) else 0)


def _write_report(report: Report, style: str, output: Path | None, *, every: bool) -> None:
    """Colours go to a terminal only, and not where NO_COLOR is set (no-color.org)."""
    from open360.release.cli.output import write_output
    from open360.release.reports.reporters import REPORTERS, text_report

    if style == "text":
        color = output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = text_report(report, color=color, every=every)
    else:
        text = REPORTERS[style](report)
    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
    else:
        write_output(output, text.encode())
