"""`open360 catalogue [NAME]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from open360.release.cli.options import json_option

if TYPE_CHECKING:
    from open360.release.catalogue.abilities import EntrySummary


@click.command("catalogue")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List the known releases with how closely their data can be pulled; or print the spec of one.

    NAME is a name of the list, a repository (then its part of the spec is printed) or an alias.
    """
    if name is None:
        _list_entries(as_json)
    else:
        _print_entry(name, as_json)


def _list_entries(as_json: bool) -> None:
    from open360.release import catalogue
    from open360.release.catalogue.abilities import summary_of
    from open360.schema.serialization import canonical_json

    entries = [summary_of(catalogue.load(known)) for known in catalogue.names()]
    if as_json:
        click.echo(canonical_json([_as_plain(entry) for entry in entries]).decode(), nl=False)
        return
    click.echo(f"{'NAME':<13}{'RUNS':>4}{'CHECKPOINTS':>13}  {'PULL':<6}{'OF RUNS':>7}  {'DATA':<44}  REASON")
    for entry in entries:
        best = entry.best
        share = f"{entry.runs_with(best.level)}/{len(entry.abilities)}"
        data = entry.data[0] + (f" +{len(entry.data) - 1}" if len(entry.data) > 1 else "") if entry.data else "none"
        counts = f"{len(entry.abilities):>4}{entry.checkpoints:>13}"
        click.echo(f"{entry.name:<13}{counts}  {best.level:<6}{share:>7}  {data:<44}  {best.reason}")
    click.echo("\nPULL: how closely the data of a checkpoint can be had. 'open360 catalogue NAME' tells it run by run.")


def _print_entry(name: str, as_json: bool) -> None:
    from open360.release import catalogue
    from open360.release.catalogue.abilities import summary_of
    from open360.schema.serialization import dump_json, dump_yaml

    found = catalogue.find(name)
    if found is None:
        raise click.UsageError(f"the catalogue has no '{name}' (expected one of: {', '.join(catalogue.names())})")
    spec = catalogue.part_of(found, name)
    if as_json:
        click.echo(dump_json(spec).decode(), nl=False)
        return
    whole = spec == catalogue.load(found)
    for line in _comments(summary_of(spec), None if whole else name):
        click.echo(f"# {line}")
    click.echo((catalogue.text(found) if whole else dump_yaml(spec)).decode(), nl=False)


def _comments(entry: EntrySummary, part: str | None) -> list[str]:
    """The summary that stands above a spec: equal runs share a line."""
    head = f"catalogue entry '{entry.name}'" + (f", the part published as {part}" if part is not None else "")
    lines = [
        f"{head}: {_counted(len(entry.abilities), 'run')}, {entry.checkpoints} checkpoints declared",
        "pull, by run:",
    ]
    for ability in sorted(set(entry.abilities.values())):
        runs = [run for run, theirs in entry.abilities.items() if theirs == ability]
        named = ", ".join(runs) if len(runs) <= 4 else f"{runs[0]}, {runs[1]} … {runs[-1]} ({len(runs)} runs)"
        lines.append(f"  {ability.level:<6}{named}: {ability.reason}")
    return lines


def _as_plain(entry: EntrySummary) -> dict[str, object]:
    best = entry.best
    return {
        "name": entry.name,
        "runs": {run: {"level": a.level, "reason": a.reason} for run, a in entry.abilities.items()},
        "checkpoints": entry.checkpoints,
        "data": list(entry.data),
        "level": best.level,
        "reason": best.reason,
    }


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)
