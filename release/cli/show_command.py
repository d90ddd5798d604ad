"""`open360 show TARGET`."""

from __future__ import annotations

import click

from open360.release.cli.options import endpoint_option, json_option, tag_option, target_argument


@click.command("show")
@target_argument
@json_option
@tag_option
@endpoint_option
def command(target: str, as_json: bool, tag: str | None, endpoint: str | None) -> None:
    """Show what the release at TARGET holds: corpora, runs, chunks, checkpoints, losses, revisions."""
    from open360.release.showing import summarize, summary_text
    from open360.release.targets import open_target
    from open360.schema.serialization import canonical_json, load_manifest, load_spec

    opened = open_target(target, tag=tag, endpoint=endpoint)
    spec = load_spec(opened.spec_bytes(), f"{opened.label}/release.yaml")
    data = opened.manifest_bytes()
    manifest = load_manifest(data, f"{opened.label}/manifest.json") if data else None
    summary = summarize(spec, manifest)
    click.echo(canonical_json(summary).decode() if as_json else summary_text(summary), nl=False)
