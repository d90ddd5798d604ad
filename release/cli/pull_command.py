"""`open360 pull TARGET`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import click

from open360.release.cli.options import (
    dry_run_option,
    endpoint_option,
    json_option,
    tag_option,
    target_argument,
)

STEPS = re.compile(r"(?P<first>[0-9]{1,18})(:(?P<end>[0-9]{0,18}))?")


class StepRange(click.ParamType[tuple[int, int]]):
    """`N`, or `N:M` for batches N … M-1."""

    name = "N[:M]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """First and last batch, both included."""
        found = STEPS.fullmatch(str(value))
        first = int(found["first"]) if found else 0
        end = int(found["end"] or first + 1) if found else 0
        if end <= first:
            self.fail(f"expected a batch N or a range N:M with M > N, found '{value}'", param, ctx)
        return first, end - 1


@click.command("pull")
@target_argument
@click.option("--checkpoint", metavar="NAME", help="Checkpoint whose data, or which itself, is wanted.")
@click.option("--step", type=StepRange(), help="Only batch N (0-based), or batches N to M-1.")
@click.option(
    "--what",
    type=click.Choice(("data", "weights", "all", "manifest")),
    default="data",
    show_default=True,
    help="data: rows that are new since the checkpoint before; all: the checkpoint with its training state.",
)
@click.option("--run", metavar="NAME", help="Run of the checkpoint or step, when the release has several.")
@click.option("--as", "form", type=click.Choice(("parquet", "jsonl", "npy")), default="parquet", show_default=True)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder to write [default: a name made of the request]."
)
@click.option("--force", is_flag=True, help="Replace the output of an earlier pull.")
@dry_run_option
@json_option
@tag_option
@endpoint_option
def command(
    target: str,
    checkpoint: str | None,
    step: tuple[int, int] | None,
    what: str,
    run: str | None,
    form: str,
    out: Path | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
    tag: str | None,
    endpoint: str | None,
) -> None:
    """Fetch the data or the weights of a checkpoint from TARGET, verified, into a folder that appears whole.

    A checkpoint at step s has consumed batches 0 to s-1.
    """
    from open360.release.cli.progress import bar
    from open360.release.pulling import pull_checkpoint_data, pull_documents, pull_steps, pull_weights
    from open360.release.targets import open_target
    from open360.schema.serialization import canonical_json

    if step is not None and (checkpoint is not None or what != "data"):
        raise click.UsageError("--step fetches the data of batches; leave out --checkpoint and --what")
    if step is None and checkpoint is None and what != "manifest":
        raise click.UsageError("say what to fetch: --checkpoint NAME, --step N, or --what manifest")
    opened = open_target(target, tag=tag, endpoint=endpoint)
    out = out or Path(_default_name(target, checkpoint, step, what))
    rows = {"run": run, "form": form, "force": force, "dry_run": dry_run}
    with bar("pulling") as progress:
        if step is not None:
            pull = pull_steps(opened, *step, out, progress=progress, **rows)  # type: ignore[arg-type]
        elif checkpoint is None:
            pull = pull_documents(opened, out, force=force, dry_run=dry_run)
        elif what == "data":
            pull = pull_checkpoint_data(opened, checkpoint, out, progress=progress, **rows)  # type: ignore[arg-type]
        else:
            part: Literal["weights", "checkpoint"] = "checkpoint" if what == "all" else "weights"
            options = {"run": run, "force": force, "dry_run": dry_run}
            pull = pull_weights(opened, checkpoint, out, what=part, progress=progress, **options)  # type: ignore[arg-type]
    if as_json:
        click.echo(canonical_json(pull.as_json()).decode(), nl=False)
        return
    for read in pull.reads:
        click.echo(f"{read.path}  [{read.begin}, {read.end})")
    state = "to read" if dry_run else f"read and verified, in {out}"
    click.echo(f"{len(pull.reads)} reads, {pull.bytes:,} bytes {state}", err=True)


def _default_name(target: str, checkpoint: str | None, step: tuple[int, int] | None, what: str) -> str:
    name = Path(target).resolve().name if Path(target).is_dir() else target.split("/")[-1]
    if step is not None:
        return f"{name}-step-{step[0]}" if step[0] == step[1] else f"{name}-steps-{step[0]}-{step[1]}"
    return "-".join(part for part in (name, checkpoint, what) if part)
