"""A folder that appears whole: what is fetched lies under a hidden name beside it until everything has been verified.

After an interruption the same request goes on with what is there; another request starts afresh. When the disk is
full, what was fetched is removed, and the error says how much was needed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from open360.schema.atomic import sync_folder, sync_tree
from open360.schema.errors import Open360Error

FULL = (errno.ENOSPC, errno.EDQUOT)


class OutputError(Open360Error):
    """The output folder cannot be made: it is there already, or somebody else is making it."""


@dataclass(frozen=True, kw_only=True)
class Staging:
    """Where a pull puts things: `fetched` is kept over interruptions and never shown, `result` becomes the output."""

    fetched: Path
    result: Path


def check_output(out: Path, marker: str, *, force: bool) -> None:
    """Raise OutputError unless `out` may be made: it is not there, empty, or (with `force`) made by an earlier pull.

    A folder is only ever replaced when it holds the file `marker`, which pulls write.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise OutputError(f"{out}: expected a folder or nothing, found something else; choose another place with -o")
    if not any(out.iterdir()):
        return
    if not force:
        raise OutputError(f"{out}: exists already; choose another place with -o, or replace it with --force")
    if not (out / marker).is_file():
        raise OutputError(
            f"{out}: --force replaces only what an earlier pull has made, and there is no '{marker}' in it"
        )


def move_file(path: Path, to: Path) -> None:
    """Put a fetched file where it belongs in the result."""
    to.parent.mkdir(parents=True, exist_ok=True)
    path.replace(to)
    to.chmod(0o644)


@contextlib.contextmanager
def staged(out: Path, identity: str, needed: int) -> Iterator[Staging]:
    """Yield a place to fetch into; on success its `result` becomes `out`, replacing what was there.

    Args:
        identity: of the request; what an interrupted one with the same identity has fetched is kept.
        needed: bytes that will be written.
    Raises:
        OutputError: another process is making the same folder.
        OSError: the disk is full (with how much was needed), or fails.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100  a name is needed, also of '.' and 'x/..'
    place = out.parent / f".{out.name}.partial"
    with _locked(place, out):
        try:
            _prepare(place, identity)
            staging = Staging(fetched=place / "fetched", result=place / "result")
            _check_room(place, out, needed)
            yield staging
            _finish(staging.result, out, place)
        except OSError as error:
            if error.errno not in FULL:
                raise
            shutil.rmtree(place, ignore_errors=True)
            problem = f"the disk is full: {needed:,} bytes are needed; free them, or choose another -o"
            raise OSError(error.errno, problem, str(out)) from error
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _locked(place: Path, out: Path) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{out}: another pull is making it; wait for that one, or choose another -o") from None
        place.mkdir(exist_ok=True)
        if not os.path.samestat(os.fstat(handle), place.stat()):
            raise OutputError(f"{out}: another pull has just made it; look at it, or choose another -o")
        yield
    finally:
        os.close(handle)


def _prepare(place: Path, identity: str) -> None:
    request = place / "request"
    if not request.is_file() or request.read_text() != identity:
        for entry in place.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        request.write_text(identity)
    shutil.rmtree(place / "result", ignore_errors=True)
    for name in ("fetched", "result"):
        (place / name).mkdir(exist_ok=True)


def _check_room(place: Path, out: Path, needed: int) -> None:
    there = sum(path.stat().st_size for path in (place / "fetched").rglob("*") if path.is_file())
    free = shutil.disk_usage(place).free
    if needed - there > free:
        raise OSError(errno.ENOSPC, f"{free} bytes are free", str(out))


def _finish(result: Path, out: Path, place: Path) -> None:
    sync_tree(result)
    if out.exists():
        out.replace(place / "replaced")
    result.replace(out)
    sync_folder(out.parent)
