"""Routes for repositories and refs: create, delete, show; branches, tags, history."""

from __future__ import annotations

from dataclasses import replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from open360.release.local_hub import listings
from open360.release.local_hub.names import RepoId, check_ref_name, parse_repo
from open360.release.local_hub.refusals import RefusalError, no_repository, no_revision
from open360.release.local_hub.repositories import FileEntry, Repository
from open360.release.local_hub.requests import (
    at_revision,
    base_url,
    flag,
    hub_of,
    part,
    read_json,
    repo_of,
    require_token,
    text,
)
from open360.release.local_hub.upload_modes import DEFAULT_GITATTRIBUTES

USER = "local"
HISTORY_PAGE = 1000


async def show_user(request: Request) -> Response:
    """Say who a token belongs to: everybody is the same user."""
    require_token(request)
    return JSONResponse(
        {
            "type": "user",
            "id": "0" * 24,
            "name": USER,
            "fullname": "Local Hub",
            "isPro": False,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"displayName": "any", "role": "write"}},
        }
    )


async def list_harnesses(_request: Request) -> Response:
    """Answer a question that the client asks on the side: nothing to name."""
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})


async def _named_repo(request: Request) -> tuple[RepoId, bool]:
    data = await read_json(request)
    name, namespace = text(data, "name"), data.get("organization")
    if namespace is None:
        namespace, _, name = name.rpartition("/")
    kind = text(data, "type", "model") + "s"
    private = data.get("private") is True or data.get("visibility") == "private"
    return parse_repo(kind, str(namespace or USER), name), private


async def create_repo(request: Request) -> Response:
    """Make a repository with the Hub's first commit; 409 names the one that exists."""
    require_token(request)
    repo, private = await _named_repo(request)
    hub = hub_of(request)
    url = f"{base_url(request)}/{repo.web_path}"

    def create() -> None:
        blob = hub.objects.put_regular(DEFAULT_GITATTRIBUTES)
        files = {".gitattributes": FileEntry(blob_id=blob, size=len(DEFAULT_GITATTRIBUTES))}
        hub.repositories.create(repo, private=private, first_files=files)

    try:
        await run_in_threadpool(create)
    except RefusalError as refusal:
        raise RefusalError(refusal.status, refusal.message, extra={"url": url}) from refusal
    return JSONResponse({"url": url, "name": str(repo), "id": "0" * 24})


async def delete_repo(request: Request) -> Response:
    """Remove a repository."""
    require_token(request)
    repo, _ = await _named_repo(request)
    await run_in_threadpool(hub_of(request).repositories.delete, repo)
    return Response("OK")


async def move_repo(request: Request) -> Response:
    """Give a repository another name."""
    require_token(request)
    data = await read_json(request)
    kind = text(data, "type", "model") + "s"
    old, new = (parse_repo(kind, *text(data, key).split("/", 1)) for key in ("fromRepo", "toRepo"))
    await run_in_threadpool(hub_of(request).repositories.rename, old, new)
    return Response("OK")


async def show_repo(request: Request) -> Response:
    """Describe a repository at a revision (`main` by default)."""
    revision = part(request, "revision") if "revision" in request.path_params else "main"
    repository, commit = await run_in_threadpool(at_revision, hub_of(request), repo_of(request), revision)
    return JSONResponse(listings.describe_repository(repository, commit, blobs=flag(request, "blobs")))


async def refuse_bare_name(request: Request) -> Response:
    """Answer for a name without namespace (`gpt2`): this Hub has none."""
    raise no_repository(part(request, "name"))


async def list_refs(request: Request) -> Response:
    """List branches and tags."""
    repository = await run_in_threadpool(hub_of(request).repositories.get, repo_of(request))
    refs = {
        "branches": listings.describe_refs(repository.branches, "heads"),
        "converts": [],
        "tags": listings.describe_refs(repository.tags, "tags"),
    }
    if "include_prs" in request.query_params:
        refs["pullRequests"] = []
    return JSONResponse(refs)


async def create_branch(request: Request) -> Response:
    """Start a branch at `startingPoint` (default: `main`)."""
    require_token(request)
    hub, name = hub_of(request), check_ref_name(part(request, "revision"))
    start = (await read_json(request)).get("startingPoint") or "main"

    def edit(repository: Repository) -> Repository:
        if name in repository.branches:
            raise RefusalError(409, f"Reference already exists: branch {name}")
        commit = hub.repositories.resolve(repository, str(start))
        return replace(repository, branches={**repository.branches, name: commit})

    await run_in_threadpool(hub.repositories.change, repo_of(request), edit)
    return Response("OK")


async def delete_branch(request: Request) -> Response:
    """Remove a branch; its commits stay."""
    require_token(request)
    name = part(request, "revision")

    def edit(repository: Repository) -> Repository:
        if name == "main":
            raise RefusalError(403, "The main branch cannot be deleted")
        if name not in repository.branches:
            raise no_revision(name)
        return replace(repository, branches={key: sha for key, sha in repository.branches.items() if key != name})

    await run_in_threadpool(hub_of(request).repositories.change, repo_of(request), edit)
    return Response("OK")


async def create_tag(request: Request) -> Response:
    """Tag a revision."""
    require_token(request)
    hub, revision = hub_of(request), part(request, "revision")
    name = check_ref_name(text(await read_json(request), "tag"))

    def edit(repository: Repository) -> Repository:
        if name in repository.tags:
            raise RefusalError(409, f"Tag reference exists already: {name}")
        return replace(repository, tags={**repository.tags, name: hub.repositories.resolve(repository, revision)})

    await run_in_threadpool(hub.repositories.change, repo_of(request), edit)
    return Response("OK")


async def delete_tag(request: Request) -> Response:
    """Remove a tag."""
    require_token(request)
    name = part(request, "revision")

    def edit(repository: Repository) -> Repository:
        if name not in repository.tags:
            raise no_revision(name)
        return replace(repository, tags={key: sha for key, sha in repository.tags.items() if key != name})

    await run_in_threadpool(hub_of(request).repositories.change, repo_of(request), edit)
    return Response("OK")


async def list_commits(request: Request) -> Response:
    """List the history of a revision, newest first, in pages."""
    hub, repo = hub_of(request), repo_of(request)
    page, formatted = _page(request), "formatted" in request.query_params.getlist("expand[]")

    def read() -> tuple[list[listings.Json], bool]:
        _, commit = at_revision(hub, repo, part(request, "revision"))
        found: list[listings.Json] = []
        for index, at in enumerate(hub.repositories.history(repo, commit.id)):
            if index >= (page + 1) * HISTORY_PAGE:
                return found, True
            if index >= page * HISTORY_PAGE:
                found.append(listings.describe_commit(at, formatted=formatted))
        return found, False

    found, more = await run_in_threadpool(read)
    url = request.url.include_query_params(p=page + 1)
    return JSONResponse(found, headers={"Link": f'<{url}>; rel="next"'} if more else None)


def _page(request: Request) -> int:
    text_of_page = request.query_params.get("p", "0")
    if not text_of_page.isdecimal() or len(text_of_page) > 9:
        raise RefusalError(400, f"Invalid page {text_of_page!r}")
    return int(text_of_page)


async def squash_branch(request: Request) -> Response:
    """Replace the history of a branch with one commit of the same files."""
    require_token(request)
    hub, repo, branch = hub_of(request), repo_of(request), part(request, "revision")
    message = text(await read_json(request), "message", f"Super-squash branch '{branch}'")
    await run_in_threadpool(
        lambda: hub.repositories.commit(
            repo, branch, title=message, message="", edit=lambda head: head.files, keep_history=False
        )
    )
    return Response("OK")
