"""The body of a commit: one JSON object a line, first the header, then operations. Read line by line."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from open360.release.local_hub import git_objects
from open360.release.local_hub.names import check_path, check_sha256
from open360.release.local_hub.refusals import RefusalError, no_entry
from open360.release.local_hub.repositories import Commit, FileEntry
from open360.release.local_hub.requests import Hub, text

MAX_LINE_BYTES = 80 << 20
MAX_OPERATIONS = 100_000


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write a file whose content is stored already."""

    path: str
    entry: FileEntry


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Remove a file, or a folder with all in it."""

    path: str
    is_folder: bool


Operation = Put | Delete


@dataclass(frozen=True, kw_only=True)
class CommitRequest:
    """What a client asks to be committed."""

    title: str
    description: str
    parent: str | None
    operations: tuple[Operation, ...]


async def read_commit_request(hub: Hub, stream: AsyncIterator[bytes]) -> CommitRequest:
    """Read a commit, storing the small files as they come.

    Raises:
        RefusalError: 400 for anything malformed and for large files that were not uploaded.
    """
    header: Mapping[str, Any] | None = None
    operations: list[Operation] = []
    async for line in _lines(stream):
        key, value = _parse(line)
        if header is None:
            if key != "header":
                raise RefusalError(400, f"The first line of a commit must be its header, found {key!r}")
            header = value
            continue
        if len(operations) >= MAX_OPERATIONS:
            raise RefusalError(413, f"A commit may have at most {MAX_OPERATIONS} operations")
        operations.append(await run_in_threadpool(_operation, hub, key, value))
    if header is None:
        raise RefusalError(400, "The commit is empty: expected a header line")
    parent = header.get("parentCommit")
    return CommitRequest(
        title=text(header, "summary"),
        description=text(header, "description", ""),
        parent=None if parent is None else str(parent),
        operations=tuple(operations),
    )


async def _lines(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for block in stream:
        searched = len(buffer)
        buffer += block
        while (end := buffer.find(b"\n", searched)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            searched = 0
            if line.strip():
                yield line
        if len(buffer) > MAX_LINE_BYTES:
            raise RefusalError(413, f"A line of the commit is longer than {MAX_LINE_BYTES} bytes")
    if buffer.strip():
        yield bytes(buffer)


def _parse(line: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"A line of the commit is not JSON: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("value"), dict):
        raise RefusalError(400, "A line of the commit must be an object with 'key' and 'value'")
    return text(data, "key"), data["value"]


def _operation(hub: Hub, key: str, value: Mapping[str, Any]) -> Operation:
    if key in ("deletedFile", "deletedFolder"):
        path = text(value, "path").rstrip("/")
        return Delete(path=check_path(path), is_folder=key == "deletedFolder")
    path = check_path(value.get("path"))
    if key == "file":
        return Put(path=path, entry=_store_small(hub, value))
    if key == "lfsFile":
        return Put(path=path, entry=_find_large(hub, path, value))
    raise RefusalError(400, f"Unknown operation {key!r} in the commit")


def _store_small(hub: Hub, value: Mapping[str, Any]) -> FileEntry:
    if value.get("encoding", "utf-8") == "base64":
        try:
            data = base64.b64decode(text(value, "content"), validate=True)
        except binascii.Error as error:
            raise RefusalError(400, f"The content of a file is not base64: {error}") from error
    else:
        data = text(value, "content").encode()
    return FileEntry(blob_id=hub.objects.put_regular(data), size=len(data))


def _find_large(hub: Hub, path: str, value: Mapping[str, Any]) -> FileEntry:
    sha256 = check_sha256(value.get("oid"))
    size = large_size(hub, sha256)
    if size is None:
        raise RefusalError(400, f"LFS pointer pointed to a file that does not exist: {path} (sha256 {sha256})")
    if value.get("size", size) != size:
        raise RefusalError(400, f"{path} was announced with {value['size']} bytes, found {size}")
    pointer = git_objects.lfs_pointer(sha256, size)
    return FileEntry(blob_id=git_objects.blob_id(pointer), size=size, sha256=sha256)


def large_size(hub: Hub, sha256: str) -> int | None:
    """The size of a large file that is stored here, by LFS or by Xet, else None."""
    path = hub.objects.large_path(sha256)
    if path.exists():
        return path.stat().st_size
    xet_hash = hub.xet.find(sha256)
    return None if xet_hash is None else hub.xet.read(xet_hash).size


def apply_operations(head: Commit, operations: tuple[Operation, ...]) -> dict[str, FileEntry]:
    """The files of a commit after the operations, in order; raise `RefusalError` where one cannot be done."""
    files = dict(head.files)
    for operation in operations:
        if isinstance(operation, Put):
            files[operation.path] = operation.entry
        elif operation.is_folder:
            inside = [path for path in files if path.startswith(f"{operation.path}/")]
            if not inside:
                raise no_entry(operation.path, head.id)
            for path in inside:
                del files[path]
        elif files.pop(operation.path, None) is None:
            raise no_entry(operation.path, head.id)
    for path in files:
        folder = path
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in files:
                raise RefusalError(400, f"{folder} cannot be both a file and the folder of {path}")
    return files
