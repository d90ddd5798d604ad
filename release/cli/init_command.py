"""`open360 init DIR`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("init")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
def command(directory: Path) -> None:
    """Write a small release of one's own into DIRECTORY: spec, dvc.yaml and sample text.

    `dvc repro` works on it at once.
    """
    from open360.release.starter import write_starter

    for path in write_starter(directory):
        click.echo(path)
    click.echo(f"\nnext: cd {directory} && dvc repro && open360 validate .", err=True)
