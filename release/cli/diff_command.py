"""`open360 diff A B`."""

from __future__ import annotations

from pathlib import Path

import click

from open360.release.cli.options import endpoint_option, json_option


@click.command("diff")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--tag-a", metavar="TAG", help="Tag of A on the Hub [default: the newest version].")
@click.option("--tag-b", metavar="TAG", help="Tag of B on the Hub [default: the newest version].")
@json_option
@endpoint_option
@click.pass_context
def command(
    ctx: click.Context,
    first: str,
    second: str,
    tag_a: str | None,
    tag_b: str | None,
    as_json: bool,
    endpoint: str | None,
) -> None:
    """Show what release B lacks, has beyond A, has altered or renamed.

    A and B are folders, ORG/NAME on the Hub (also ORG/NAME@TAG), or names of the catalogue: two releases, two versions
    of one, or a release and its mirror. Listings and manifests are compared; weights and data are not downloaded.

    Exit code 0 when they are equal, 1 when they differ.
    """
    from open360.release.differences import compare, comparison_text
    from open360.release.opening import open_any_target
    from open360.release.release_contents import contents_of
    from open360.release.targets import TargetError
    from open360.schema.serialization import canonical_json

    contents = []
    for text, tag in ((first, tag_a), (second, tag_b)):
        name, named_tag = _apart(text)
        if tag is not None and named_tag is not None and tag != named_tag:
            raise click.UsageError(f"'{text}' names a tag, and so does its option ('{tag}'); keep one")
        found = contents_of(open_any_target(name, tag=tag or named_tag, endpoint=endpoint))
        if not (found.checkpoints or found.chunks or found.files):
            raise TargetError(f"{found.label}: expected files to compare, found none: nothing of it is there")
        contents.append(found)
    comparison = compare(*contents)
    text = canonical_json(comparison.plain()).decode() if as_json else comparison_text(comparison)
    click.echo(text, nl=False)
    ctx.exit(1 if comparison.differences else 0)


def _apart(text: str) -> tuple[str, str | None]:
    """`ORG/NAME@TAG` as a name and a tag; a folder that exists is a name, whatever stands in it."""
    name, at, tag = text.rpartition("@")
    return (name, tag) if at and name and tag and not Path(text).is_dir() else (text, None)
