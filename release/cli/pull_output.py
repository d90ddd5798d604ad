"""What `open360 pull` prints: the reads on stdout, all else on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from open360.release.reports.report_words import plural, printable

if TYPE_CHECKING:
    from open360.release.foreign_provenance import ForeignPull
    from open360.release.provenance import Pull

SHOWN_READS = 40
LINKS = (("100 Mbit/s", 12_500_000), ("1 Gbit/s", 125_000_000))


def print_pull(pull: Pull | ForeignPull, *, dry_run: bool) -> None:
    """The reads of a pull of ours or of others, and what they come to."""
    for line in _reads_of_others(pull) if not _is_ours(pull) else _reads(pull):
        click.echo(line)
    state = f"to read, {time_for(pull.bytes)}" if dry_run else f"read and verified, in {pull.out}"
    count = plural(len(pull.reads), "read")
    if _is_ours(pull):
        click.echo(f"{count}, {pull.bytes:,} bytes {state}", err=True)
        return
    plan = pull.plan  # type: ignore[union-attr]
    about = "about " if plan.estimated else ""
    ranges = plural(sum(file.ranges for file in plan.files.values()), "range")
    state = f"to read, {time_for(pull.bytes)}" if dry_run else f"read, in {pull.out}"
    files = plural(len(plan.files), "file")
    click.echo(f"{about}{ranges} of {files}, {about}{pull.bytes:,} bytes {state}", err=True)
    if plan.estimated:
        click.echo("about: no line index says where rows end ('open360 index' makes one)", err=True)
    for note in pull.notes:  # type: ignore[union-attr]
        click.echo(printable(f"note: {note}"), err=True)
    for doubt in pull.unverified:  # type: ignore[union-attr]
        click.echo(printable(f"not verified: {doubt}"), err=True)


def _is_ours(pull: Pull | ForeignPull) -> bool:
    return not hasattr(pull, "plan")


def _reads(pull: Pull | ForeignPull) -> Iterator[str]:
    return (printable(f"{read.path}  [{read.begin}, {read.end})") for read in pull.reads)


def _reads_of_others(pull: Pull | ForeignPull) -> Iterator[str]:
    """Every range, or a line a file where there are many."""
    files = list(pull.plan.files.values())  # type: ignore[union-attr]
    if pull.plan.reads is not None and len(pull.reads) <= SHOWN_READS:  # type: ignore[union-attr]
        yield from _reads(pull)
        return
    for file in files[:SHOWN_READS]:
        yield printable(f"{file.path}  {plural(file.ranges, 'range')}, {file.bytes:,} bytes")
    if len(files) > SHOWN_READS:
        rest = files[SHOWN_READS:]
        ranges = plural(sum(file.ranges for file in rest), "range")
        yield f"… and {plural(len(rest), 'file')} more, {ranges}, {sum(file.bytes for file in rest):,} bytes"


def time_for(size: int) -> str:
    """How long so many bytes take, at the least, over links of two speeds."""
    return ", ".join(f"{_seconds(size / speed)} at {name}" for name, speed in LINKS)


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
