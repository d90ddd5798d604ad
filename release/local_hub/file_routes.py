"""Routes that serve files: by path at a revision, whole or in ranges."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from open360.release.local_hub.byte_ranges import serve_bytes
from open360.release.local_hub.objects import read_blocks
from open360.release.local_hub.refusals import no_entry
from open360.release.local_hub.repositories import FileEntry
from open360.release.local_hub.requests import Hub, at_revision, base_url, hub_of, part, repo_of


async def resolve_file(request: Request) -> Response:
    """Serve a file; its headers say commit, ETag and, for a large file, sha256, size and Xet hash."""
    hub, repo, path = hub_of(request), repo_of(request), part(request, "path")
    _, commit = await run_in_threadpool(at_revision, hub, repo, part(request, "revision"))
    entry = commit.files.get(path)
    if entry is None:
        raise no_entry(path, commit.id)
    headers = {"X-Repo-Commit": commit.id, "ETag": f'"{entry.sha256 or entry.blob_id}"'}
    if entry.sha256 is not None:
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
        if hub.offers_xet and (xet_hash := hub.xet.find(entry.sha256)):
            url = f"{base_url(request)}/api/{repo.kind}/{repo}/xet-read-token/{commit.id}"
            headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{url}>; rel="xet-auth"'}
    return serve_bytes(request, entry.size, headers, lambda start, end: _read(hub, entry, start, end))


def _read(hub: Hub, entry: FileEntry, start: int, end: int) -> Iterator[bytes]:
    if entry.sha256 is None:
        return read_blocks(hub.objects.regular_path(entry.blob_id), start, end)
    path = hub.objects.large_path(entry.sha256)
    if path.exists():
        return read_blocks(path, start, end)
    return hub.xet.blocks(hub.xet.read(hub.xet.find(entry.sha256) or ""), start, end)
