"""Writing where a person says: whole for files, straight through for what is no file."""

from __future__ import annotations

from pathlib import Path

from open360.schema.atomic import write_bytes


def write_output(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a pipe, a device or the target of a link is written to, never replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        with path.open("wb") as stream:
            stream.write(data)
    else:
        write_bytes(path, data)
