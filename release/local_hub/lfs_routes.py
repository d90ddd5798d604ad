"""Routes of Git LFS: announce large files, send them whole or in parts, verify them.

Specification: Git LFS Batch API, with the Hub's own `multipart` transfer (part URLs in the action's header).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from open360.release.local_hub.commit_body import large_size
from open360.release.local_hub.names import check_sha256
from open360.release.local_hub.objects import receive
from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.requests import (
    Hub,
    base_url,
    hub_of,
    objects_of,
    part,
    read_json,
    repo_of,
    require_token,
)

MEDIA_TYPE = "application/vnd.git-lfs+json"
MAX_OBJECT_BYTES = 500 * 10**9  # the Hub's own limit for one file
MAX_BATCH = 1000
MAX_PARTS = 10_000


async def batch(request: Request) -> Response:
    """Answer an LFS batch: an object without actions is stored already."""
    require_token(request)
    hub = hub_of(request)
    await run_in_threadpool(hub.repositories.get, repo_of(request))
    data = await read_json(request)
    if data.get("operation") != "upload":
        raise RefusalError(422, "Only the operation 'upload' is known here: large files are downloaded by their path")
    transfers = data.get("transfers") or ["basic"]
    objects = objects_of(data, "objects", MAX_BATCH)
    described = [
        await run_in_threadpool(_describe, hub, base_url(request), item, multipart="multipart" in transfers)
        for item in objects
    ]
    multipart = any("header" in item.get("actions", {}).get("upload", {}) for item in described)
    answer = {"transfer": "multipart" if multipart else "basic", "objects": described}
    return JSONResponse(answer, media_type=MEDIA_TYPE)


def _describe(hub: Hub, base: str, item: Mapping[str, Any], *, multipart: bool) -> dict[str, Any]:
    sha256, size = check_sha256(item.get("oid")), item.get("size")
    if not isinstance(size, int) or not 0 <= size <= MAX_OBJECT_BYTES:
        error = {"code": 422, "message": f"size must be 0 to {MAX_OBJECT_BYTES} bytes"}
        return {"oid": sha256, "size": size if isinstance(size, int) else 0, "error": error}
    if large_size(hub, sha256) == size:
        return {"oid": sha256, "size": size}
    part_size = max(hub.part_size, -(-size // MAX_PARTS))
    upload = hub.objects.open_upload(
        sha256=sha256, size=size, part_size=part_size if multipart and size > part_size else None
    )
    url = f"{base}/api/uploads/{upload.id}"
    action: dict[str, Any] = {"href": url}
    if upload.part_size is not None:
        parts = {str(number): f"{url}/parts/{number}" for number in range(1, upload.parts + 1)}
        action = {"href": f"{url}/complete", "header": {"chunk_size": str(upload.part_size), **parts}}
    return {"oid": sha256, "size": size, "actions": {"upload": action, "verify": {"href": f"{base}/api/lfs-verify"}}}


async def put_object(request: Request) -> Response:
    """Take a whole large file; 422 when its sha256 is not the announced one."""
    objects = hub_of(request).objects
    upload = await run_in_threadpool(objects.read_upload, part(request, "upload"))
    with objects.incoming_file() as path:
        received = await receive(request.stream(), path, limit=upload.size)
        await run_in_threadpool(objects.accept, upload, received)
    return Response()


async def put_part(request: Request) -> Response:
    """Take a part of a large file."""
    objects = hub_of(request).objects
    upload = await run_in_threadpool(objects.read_upload, part(request, "upload"))
    number = part(request, "number")
    if not number.isdecimal() or len(number) > 5:
        raise RefusalError(400, f"Invalid part number {number!r}")
    with objects.incoming_file() as path:
        received = await receive(request.stream(), path, limit=upload.part_size or upload.size)
        etag = await run_in_threadpool(objects.accept_part, upload, int(number), received)
    return Response(headers={"ETag": f'"{etag}"'})


async def complete_parts(request: Request) -> Response:
    """Join the parts of a large file; 422 when its sha256 is not the announced one."""
    objects = hub_of(request).objects
    upload = await run_in_threadpool(objects.read_upload, part(request, "upload"))
    etags: list[tuple[int, str]] = []
    for item in objects_of(await read_json(request), "parts", MAX_PARTS):
        number, etag = item.get("partNumber"), item.get("etag")
        if not isinstance(number, int) or not isinstance(etag, str):
            raise RefusalError(400, "Each part needs a 'partNumber' and an 'etag'")
        etags.append((number, etag))
    await run_in_threadpool(objects.join_parts, upload, etags)
    return JSONResponse({"success": True})


async def verify(request: Request) -> Response:
    """Say whether a large file is stored with the size that the client has."""
    data = await read_json(request)
    sha256 = check_sha256(data.get("oid"))
    size = await run_in_threadpool(large_size, hub_of(request), sha256)
    if size is None or size != data.get("size"):
        raise RefusalError(404, f"Object {sha256}: expected {data.get('size')} bytes, found {size}")
    return JSONResponse({})
