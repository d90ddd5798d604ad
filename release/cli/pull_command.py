"""`open360 pull TARGET`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from open360.release.cli.options import (
    dry_run_option,
    endpoint_option,
    json_option,
    tag_option,
    target_argument,
)

if TYPE_CHECKING:  # a command imports what it needs when it is called
    from open360.release.foreign_provenance import ForeignPull
    from open360.release.foreign_target import ForeignTarget
    from open360.release.provenance import Pull
    from open360.release.targets import Target

RANGE = re.compile(r"(?P<first>[0-9]{1,18})(:(?P<end>[0-9]{0,18}))?")
WHATS = ("data", "weights", "optimizer", "metrics", "all", "manifest")
FORMS = ("native", "parquet", "jsonl", "npy", "megatron", "text")


class HalfOpen(click.ParamType[tuple[int, int]]):
    """`N`, or `N:M` for N … M-1."""

    def __init__(self, noun: str, letters: str) -> None:
        self.noun, self.name = noun, letters

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """First one, and the one after the last."""
        found = RANGE.fullmatch(str(value))
        first = int(found["first"]) if found else 0
        end = int(found["end"] or first + 1) if found else 0
        if end <= first:
            self.fail(f"expected a {self.noun} N or a range N:M with M > N, found '{value}'", param, ctx)
        return first, end


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for on the command line."""

    target: str
    checkpoint: str | None
    between: tuple[str, str] | None
    step: tuple[int, int] | None
    rows: tuple[int, int] | None
    source: str | None
    what: str
    run: str | None
    form: str | None
    out: Path | None
    force: bool
    dry_run: bool
    indexes: Path | None

    @property
    def folder(self) -> Path:
        """Where it is put."""
        return self.out if self.out is not None else Path(_default_name(self))

    @property
    def is_shown(self) -> bool:
        """Whether it goes to stdout as text."""
        return self.what == "data" and self.form == "text" and self.out is None and not self.dry_run

    def check(self) -> None:
        """Raise UsageError for what does not go together."""
        selections = {
            "--checkpoint": self.checkpoint, "--between": self.between, "--step": self.step, "--rows": self.rows
        }  # fmt: skip
        given = [name for name, value in selections.items() if value is not None]
        if len(given) > 1:
            raise click.UsageError(f"{' and '.join(given)}: choose one of them")
        if self.what == "manifest" and (given or self.source is not None):
            raise click.UsageError("--what manifest is about the whole release; leave out what chooses a part")
        if self.what != "manifest" and not given:
            raise click.UsageError(
                "say what to fetch: --checkpoint NAME, --between A B, --step N, --rows I, or --what manifest"
            )
        if self.what != "data" and given and given != ["--checkpoint"]:
            raise click.UsageError(f"{given[0]} fetches the data of batches; leave out --what, or name a --checkpoint")
        if self.what != "data" and (self.source is not None or self.form is not None):
            raise click.UsageError("--source and --as are about data; leave them out, or --what")


@click.command("pull", short_help="Fetch the data or the weights of a checkpoint, verified.")
@target_argument
@click.option("--checkpoint", metavar="NAME", help="Checkpoint whose data, or which itself, is wanted.")
@click.option("--between", nargs=2, metavar="A B", help="Data that checkpoint B has seen and checkpoint A has not.")
@click.option("--step", type=HalfOpen("batch", "N[:M]"), help="Only batch N (0-based), or batches N to M-1.")
@click.option("--rows", type=HalfOpen("row", "I[:J]"), help="Only row I in training order (0-based), or I to J-1.")
@click.option("--source", metavar="NAME", help="Only rows of this source, where rows say which they are from.")
@click.option(
    "--what",
    type=click.Choice(WHATS),
    default="data",
    show_default=True,
    help="data: rows that are new since the checkpoint before; all: the checkpoint with its training state.",
)
@click.option("--run", metavar="NAME", help="Run of the checkpoint, step or row, when the release has several.")
@click.option(
    "--as",
    "form",
    type=click.Choice(FORMS),
    help="native: whole files as published; text: decoded, to stdout without -o [default: parquet; native where only "
    "the chunk of a checkpoint is known].",
)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), help="Folder to write [default: a name made of the request]."
)
@click.option("--force", is_flag=True, help="Replace the output of an earlier pull.")
@click.option(
    "--indexes",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of line indexes ('open360 index') of files that have none beside them.",
)
@dry_run_option
@json_option
@tag_option
@click.option(
    "--spec",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the repositories of a release that open360 did not make by this spec.",
)
@endpoint_option
def command(
    tag: str | None,
    spec: Path | None,
    endpoint: str | None,
    as_json: bool,
    between: tuple[str, str] | None,
    **asked: Any,
) -> None:
    """Fetch the data or the weights of a checkpoint from TARGET, verified, into a folder that appears whole.

    TARGET is a folder that exists, ORG/NAME on the Hub (whoever made the release), or a name of the catalogue.
    A checkpoint at step s has consumed batches 0 to s-1; its data is what is new since the checkpoint before.

    \b
    open360 pull my-org/amber-nano --checkpoint ckpt_003 -o seen
    open360 pull EleutherAI/pythia-70m --step 4000 --as text
    open360 pull EleutherAI/pythia-70m --between step1000 step2000 --dry-run
    open360 pull LLM360/Amber --checkpoint ckpt_100 --what weights

    What could not be verified is told, and written into provenance.json beside the data. Exit code 0 when it is done; 1
    when what came is not what was published; 2 when nobody can say which data it is (with the reason), or for wrong
    usage; 3 when the network, the Hub or the disk failed: then try again.
    """
    from open360.release.cli.pull_output import print_pull
    from open360.release.foreign_target import ForeignTarget
    from open360.release.opening import open_any_target
    from open360.schema.serialization import canonical_json

    wanted = Asked(between=between or None, **asked)
    wanted.check()
    if as_json and wanted.is_shown:
        raise click.UsageError("--as text without -o prints the rows themselves; leave out --json, or name a folder")
    target = open_any_target(wanted.target, tag=tag, spec=spec, endpoint=endpoint)
    if wanted.is_shown:
        _show(target, wanted)
        return
    pull = _of_others(target, wanted) if isinstance(target, ForeignTarget) else _of_ours(target, wanted)
    if as_json:
        click.echo(canonical_json(pull.as_json()).decode(), nl=False)
    else:
        print_pull(pull, dry_run=wanted.dry_run)


def _of_ours(target: Target, wanted: Asked) -> Pull:
    from open360.release import pulling
    from open360.release.cli.progress import bar
    from open360.release.pull_selection import SelectionError

    out, checkpoint = wanted.folder, wanted.checkpoint or ""
    files: dict[str, Any] = {"force": wanted.force, "dry_run": wanted.dry_run}
    part: dict[str, Any] = {"run": wanted.run, **files}
    rows: dict[str, Any] = {"form": wanted.form or "parquet", "source": wanted.source, **part}
    if wanted.form == "native" and (wanted.step is not None or wanted.rows is not None):
        raise SelectionError("native gives whole chunks, and a part of one was asked for; choose another --as")
    with bar("pulling") as progress:
        rows["progress"] = progress
        if wanted.what == "manifest":
            return pulling.pull_documents(target, out, **files)
        if wanted.what == "metrics":
            return pulling.pull_metrics(target, checkpoint, out, **part)
        if wanted.what != "data":
            what: Any = "checkpoint" if wanted.what == "all" else wanted.what
            return pulling.pull_weights(target, checkpoint, out, what=what, progress=progress, **part)
        if wanted.step is not None:
            return pulling.pull_steps(target, wanted.step[0], wanted.step[1] - 1, out, **rows)
        if wanted.rows is not None:
            return pulling.pull_rows(target, *wanted.rows, out, **rows)
        if wanted.between is not None:
            return pulling.pull_between(target, wanted.between, out, **rows)
        return pulling.pull_checkpoint_data(target, checkpoint, out, **rows)


def _of_others(target: ForeignTarget, wanted: Asked) -> ForeignPull:
    from open360.release.cli.progress import bar
    from open360.release.foreign_checkpoints import prepare_checkpoint, pull_checkpoint
    from open360.release.foreign_pulling import carry_out, prepare_rows

    if wanted.what == "manifest":
        raise click.UsageError(f"{target.label} was not made by open360 and has no manifest; see 'open360 catalogue'")
    with bar("pulling") as progress:
        if wanted.what == "data":
            rows = prepare_rows(target, _selection(wanted), form=wanted.form, indexes=wanted.indexes)  # type: ignore[arg-type]
            if wanted.dry_run:
                return rows.pull
            return carry_out(rows, wanted.folder, force=wanted.force, progress=progress)
        what: Any = wanted.what
        pull, part = prepare_checkpoint(target, wanted.checkpoint or "", what, run=wanted.run)
        if wanted.dry_run:
            return pull
        return pull_checkpoint(pull, part, wanted.folder, force=wanted.force, progress=progress)


def _selection(wanted: Asked) -> Any:
    from open360.release.foreign_selection import Wanted

    return Wanted(
        run=wanted.run,
        checkpoint=wanted.checkpoint,
        between=wanted.between,
        steps=wanted.step,
        rows=wanted.rows,
        source=wanted.source,
    )


def _show(target: Target, wanted: Asked) -> None:
    """Rows as text to stdout, as they come; colours go to a terminal only, and not where NO_COLOR is set."""
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for text in _texts(target, wanted, color=color):
        click.echo(text, nl=False, color=color)


def _texts(target: Target, wanted: Asked, *, color: bool) -> Iterator[str]:
    from open360.release.foreign_target import ForeignTarget

    if isinstance(target, ForeignTarget):
        from open360.release.foreign_pulling import prepare_rows, shown

        prepared = prepare_rows(target, _selection(wanted), form="text", indexes=wanted.indexes)
        return shown(prepared, color=color)
    from open360.release.shown_rows import shown_steps, steps_asked

    run, (first, end) = wanted.run, wanted.step or (0, 0)
    if wanted.step is None:
        run, first, end = steps_asked(
            target, run=run, checkpoint=wanted.checkpoint, between=wanted.between, rows=wanted.rows
        )
    return shown_steps(target, first, end, run=run, rows=wanted.rows, source=wanted.source, color=color)


def _default_name(wanted: Asked) -> str:
    target = wanted.target
    name = Path(target).resolve().name if Path(target).is_dir() else target.split("/")[-1]
    if wanted.step is not None:
        first, last = wanted.step[0], wanted.step[1] - 1
        return f"{name}-step-{first}" if first == last else f"{name}-steps-{first}-{last}"
    if wanted.rows is not None:
        return f"{name}-rows-{wanted.rows[0]}-{wanted.rows[1] - 1}"
    if wanted.between is not None:
        return "-".join((name, *wanted.between, wanted.what))
    return "-".join(part for part in (name, wanted.checkpoint, wanted.what) if part)
