"""Whole files and folders, or none: written under a temporary name, synced, renamed.

The one place of `schema` that touches the disk: `release` and `trainer` both need it and may not import each other
(see docs/adr/0002-atomic-writes-live-in-schema.md).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` last a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make a folder and everything in it last a power cut."""
    for child in sorted(folder.rglob("*"), reverse=True):
        sync_folder(child) if child.is_dir() else sync_file(child)
    sync_folder(folder)


def sync_file(path: Path) -> None:
    """Make the bytes of `path` last a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes that name, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        sync_file(partial)
        partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, or leave what was there."""
    with replacing_file(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on any error it is removed.

    A reader sees the old folder, none for a moment, or the new one: never a part of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o755)
        sync_tree(partial)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old / "folder")
            partial.replace(path)
            shutil.rmtree(old)
        else:
            partial.replace(path)
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def discard_leftovers(target: Path) -> None:
    """Remove the temporary names of `target` that this module gives, left by a process that was killed."""
    for pattern in (f".{target.name}.*.partial", f".{target.name}.*.old"):
        for path in target.parent.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
