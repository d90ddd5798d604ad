"""Progress bars on stderr: shown to a terminal, silent elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from open360.release.reports.report_words import printable

Report = Callable[[int, int, str], None]


@contextlib.contextmanager
def bar(what: str) -> Iterator[Report]:
    """Yield `report(done, total, text)`; it draws a bar when stderr is a terminal."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield lambda _done, _total, _text: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def report(done: int, total: int, text: str) -> None:
            progress.update(task, completed=done, total=total, description=printable(f"{what} {text}".rstrip()))

        yield report
