"""Routes for what is in a repository: pre-upload, commit, tree, paths."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from open360.release.local_hub import listings
from open360.release.local_hub.commit_body import CommitRequest, apply_operations, large_size, read_commit_request
from open360.release.local_hub.names import RepoId, check_path, check_sha256
from open360.release.local_hub.refusals import RefusalError, no_entry
from open360.release.local_hub.repositories import Commit, FileEntry
from open360.release.local_hub.requests import (
    MAX_JSON_BYTES,
    Hub,
    at_revision,
    base_url,
    flag,
    hub_of,
    objects_of,
    part,
    read_body,
    read_json,
    repo_of,
    require_token,
    text,
)
from open360.release.local_hub.upload_modes import MAX_REGULAR_BYTES, is_binary, is_ignored, is_large_by_name

PAGE, EXPANDED_PAGE = 1000, 50
MAX_PATHS = 1000
MAX_PREUPLOAD = 256


async def preupload(request: Request) -> Response:
    """Say of each file whether it goes to large-file storage, is ignored, or is here already (`oid`)."""
    require_token(request)
    refuse_pull_request(request)
    data = await read_json(request)
    files = objects_of(data, "files", MAX_PREUPLOAD)
    ignore = data.get("gitIgnore")

    def answer() -> list[listings.Json]:
        hub = hub_of(request)
        _, commit = at_revision(hub, repo_of(request), part(request, "revision"))
        attributes = _small_text(hub, commit, ".gitattributes")
        gitignore = ignore if isinstance(ignore, str) else _small_text(hub, commit, ".gitignore")
        return [_upload_mode(commit, file, attributes, gitignore) for file in files]

    return JSONResponse({"files": await run_in_threadpool(answer)})


def _upload_mode(commit: Commit, file: Mapping[str, Any], attributes: str, gitignore: str) -> listings.Json:
    path, size = check_path(file.get("path")), file.get("size")
    if not isinstance(size, int) or size < 0:
        raise RefusalError(400, f"{path}: 'size' must be a number of bytes")
    try:
        sample = base64.b64decode(text(file, "sample", ""))
    except binascii.Error as error:
        raise RefusalError(400, f"{path}: 'sample' is not base64: {error}") from error
    large = size > MAX_REGULAR_BYTES or is_large_by_name(path, attributes) or is_binary(sample)
    answer: listings.Json = {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": is_ignored(path, gitignore),
    }
    if (entry := commit.files.get(path)) is not None:
        answer["oid"] = entry.sha256 or entry.blob_id
    return answer


def _small_text(hub: Hub, commit: Commit, path: str) -> str:
    entry = commit.files.get(path)
    if entry is None or entry.sha256 is not None:
        return ""
    return hub.objects.regular_path(entry.blob_id).read_text(errors="replace")


def refuse_pull_request(request: Request) -> None:
    """Refuse (501) what would open a pull request."""
    if flag(request, "create_pr"):
        raise RefusalError(501, "Pull requests are not part of the local Hub: commit to a branch")


async def commit(request: Request) -> Response:
    """Add one commit to a branch, all of it or nothing."""
    require_token(request)
    refuse_pull_request(request)
    hub, repo, branch = hub_of(request), repo_of(request), part(request, "revision").removeprefix("refs/heads/")
    await run_in_threadpool(at_revision, hub, repo, branch)
    wanted = await read_commit_request(hub, request.stream())
    made = await run_in_threadpool(_commit, hub, repo, branch, wanted)
    url = f"{base_url(request)}/{repo.web_path}/commit/{made.id}"
    return JSONResponse({"success": True, "commitOid": made.id, "commitUrl": url, "hookOutput": ""})


def _commit(hub: Hub, repo: RepoId, branch: str, wanted: CommitRequest) -> Commit:
    def edit(head: Commit) -> Mapping[str, FileEntry]:
        if wanted.parent is not None and not (wanted.parent and head.id.startswith(wanted.parent)):
            raise RefusalError(412, "A commit has happened since. Please refresh and try again.")
        return apply_operations(head, wanted.operations)

    return hub.repositories.commit(repo, branch, title=wanted.title, message=wanted.description, edit=edit)


async def list_tree(request: Request) -> Response:
    """List a folder, in pages whose successor is in the `Link` header."""
    hub, repo, revision = hub_of(request), repo_of(request), part(request, "revision")
    folder = part(request, "path").strip("/") if "path" in request.path_params else ""
    recursive, expand = flag(request, "recursive"), flag(request, "expand")
    limit = min(_number(request, "limit", EXPANDED_PAGE if expand else PAGE), PAGE)
    cursor = _number(request, "cursor", 0)

    def read() -> tuple[list[listings.Json], bool]:
        _, at = at_revision(hub, repo, revision)
        if folder and folder not in at.folders:
            raise no_entry(folder, at.id)
        paths = listings.list_paths(at, folder, recursive=recursive)
        entries = [listings.describe(hub, at, path) for path in paths[cursor : cursor + limit]]
        if expand:
            entries = listings.with_last_commits(hub, repo, at, entries)
        return entries, cursor + limit < len(paths)

    entries, more = await run_in_threadpool(read)
    query = {"recursive": recursive, "expand": expand, "limit": limit, "cursor": cursor + limit}
    url = f"{base_url(request)}{request.url.path}?{urlencode({k: str(v).lower() for k, v in query.items()})}"
    return JSONResponse(entries, headers={"Link": f'<{url}>; rel="next"'} if more else None)


def _number(request: Request, name: str, default: int) -> int:
    value = request.query_params.get(name, str(default))
    if not value.isdecimal() or len(value) > 9:
        raise RefusalError(400, f"{name!r} must be a whole number, found {value!r}")
    return int(value)


async def paths_info(request: Request) -> Response:
    """Describe the given files and folders; what does not exist is left out."""
    hub, repo, revision = hub_of(request), repo_of(request), part(request, "revision")
    paths, expand = await _asked_paths(request)

    def read() -> list[listings.Json]:
        _, at = at_revision(hub, repo, revision)
        there = [path for path in paths if path in at.files or (path and path in at.folders)]
        entries = [listings.describe(hub, at, path) for path in there]
        return listings.with_last_commits(hub, repo, at, entries) if expand else entries

    return JSONResponse(await run_in_threadpool(read))


async def _asked_paths(request: Request) -> tuple[list[str], bool]:
    if "json" in request.headers.get("content-type", ""):
        data = await read_json(request)
        given, expand = data.get("paths", []), data.get("expand") is True
    else:
        form = parse_qs((await read_body(request, MAX_JSON_BYTES)).decode(errors="replace"))
        given, expand = form.get("paths", []), form.get("expand", ["false"])[0].lower() == "true"
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or len(given) > MAX_PATHS:
        raise RefusalError(413, f"'paths' must be a list of at most {MAX_PATHS} paths")
    return [str(path).strip("/") for path in given], expand


async def duplicate_large_files(request: Request) -> Response:
    """Let a repository use large files of another one: all share one store, so they only have to exist."""
    require_token(request)
    files = objects_of(await read_json(request), "files", MAX_PATHS)
    hub = hub_of(request)
    await run_in_threadpool(hub.repositories.get, repo_of(request))
    wanted = [check_sha256(file.get("sha256")) for file in files]
    missing = [sha256 for sha256 in wanted if await run_in_threadpool(large_size, hub, sha256) is None]
    failed = [{"sha256": sha256, "error": "no such file"} for sha256 in missing]
    return JSONResponse(
        {"success": [{"sha256": sha256} for sha256 in wanted if sha256 not in missing], "failed": failed}
    )
