"""`open360 index TARGET|FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from open360.release.cli.options import endpoint_option

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from open360.release.formats.ranges import Ranges


@click.command("index")
@click.argument("target", metavar="TARGET|FILE")
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path),
    required=True,
    help="The index of a FILE; for a TARGET a folder, with an index NAME.lines for each file.",
)
@click.option("--corpus", metavar="NAME", help="Only files of this corpus.")
@click.option(
    "--file", "files", metavar="PATTERN", multiple=True, help="Only files whose names match; may be repeated."
)
@click.option("--verify", is_flag=True, help="Make nothing: read the files again and compare the indexes with them.")
@click.option(
    "--spec", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Read the repositories by this spec."
)
@endpoint_option
def command(
    target: str,
    out: Path,
    corpus: str | None,
    files: tuple[str, ...],
    verify: bool,
    spec: Path | None,
    endpoint: str | None,
) -> None:
    """Index where the rows of JSON lines begin, plain or packed with zstd, so that they can be read by range.

    FILE is a file of this disk or an http(s) address, TARGET a release whose data is JSON lines. An index is small, and
    says which file it is of; published beside the file as NAME.lines it is found by itself. What was interrupted goes
    on where it was.
    """
    jobs = _jobs(target, out, corpus, files, spec, endpoint)
    for ranges, path, index in jobs:
        _verify(ranges, path, index) if verify else _make(ranges, path, index)


def _jobs(
    target: str, out: Path, corpus: str | None, files: tuple[str, ...], spec: Path | None, endpoint: str | None
) -> list[tuple[Ranges, str, Path]]:
    from open360.release.foreign_target import ForeignTarget
    from open360.release.formats.corpus_files import files_of_lines, index_name
    from open360.release.formats.ranges import AddressRanges, FolderRanges, data_addresses
    from open360.release.opening import open_any_target

    is_address = target.startswith(("http://", "https://"))
    if spec is None and (is_address or Path(target).is_file()):
        if corpus is not None or files:
            raise click.UsageError("--corpus and --file choose files of a TARGET, this is one file")
        if is_address:
            return [(AddressRanges(data_addresses()), target, out)]
        return [(FolderRanges(Path(target).absolute().parent), Path(target).name, out)]
    opened = open_any_target(target, spec=spec, endpoint=endpoint)
    if not isinstance(opened, ForeignTarget):
        raise click.UsageError(f"{opened.label} was made by open360: its rows are Parquet, and need no line index")
    found = files_of_lines(opened, corpus, files)
    return [(part.ranges, name, out / index_name(name)) for part in found for name in part.names]


def _make(ranges: Ranges, path: str, out: Path) -> None:
    from open360.release.cli.progress import bar
    from open360.release.formats.indexing import index_lines
    from open360.release.formats.line_index import read_line_index
    from open360.release.formats.ranges import FolderRanges

    if out.is_file():
        known = read_line_index(FolderRanges(out.absolute().parent), out.name)
        known.check_file(path, ranges.identity(path))
        click.echo(f"{out}: is there, {known.rows:,} rows of {path}")
        return
    with bar("indexing") as progress:
        made = index_lines(ranges, path, out, progress)
    click.echo(f"{out}: {made.rows:,} rows of {path}, {out.stat().st_size:,} bytes")


def _verify(ranges: Ranges, path: str, out: Path) -> None:
    from open360.release.cli.progress import bar
    from open360.release.formats.indexing import verify_line_index
    from open360.release.formats.line_index import read_line_index
    from open360.release.formats.ranges import FolderRanges

    index = read_line_index(FolderRanges(out.absolute().parent), out.name)
    with bar("comparing") as progress:
        verify_line_index(ranges, path, index, progress)
    click.echo(f"{out}: right, {index.rows:,} rows of {path}")
