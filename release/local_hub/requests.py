"""What every route reads from a request: the repository, decoded path parts, a bounded body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request

from open360.release.local_hub.names import KINDS, RepoId, parse_repo
from open360.release.local_hub.objects import ObjectStore
from open360.release.local_hub.refusals import RefusalError, no_repository
from open360.release.local_hub.repositories import Commit, Repository, RepositoryStore
from open360.release.local_hub.xet_store import XetStore

MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class Hub:
    """The stores behind one app. Without `offers_xet` no client is told of Xet, but what came by it can be read."""

    repositories: RepositoryStore
    objects: ObjectStore
    xet: XetStore
    offers_xet: bool
    part_size: int


def hub_of(request: Request) -> Hub:
    """The stores that the app was made with."""
    hub: Hub = request.app.state.hub
    return hub


def part(request: Request, name: str) -> str:
    """A decoded part of the path; routes see it as it came, so that `%2F` in a branch is no separator."""
    return unquote(str(request.path_params[name]))


def repo_of(request: Request) -> RepoId:
    """The repository in the path; raise `RefusalError` (404) for a name that no repository can have."""
    first = request.url.path.split("/")[1]
    kind = str(request.path_params.get("kind", first if first in KINDS else "models"))
    namespace, name = part(request, "namespace"), part(request, "name")
    try:
        return parse_repo(kind, namespace, name)
    except RefusalError:
        raise no_repository(f"{namespace}/{name}") from None


def base_url(request: Request) -> str:
    """Scheme and host as the client named them."""
    return str(request.base_url).rstrip("/")


def require_token(request: Request) -> None:
    """Refuse (401) a request to write that carries no token. Any token will do."""
    if not request.headers.get("authorization", "").strip():
        raise RefusalError(401, "Invalid username or password.")


def at_revision(hub: Hub, repo: RepoId, revision: str) -> tuple[Repository, Commit]:
    """The repository and the commit that a revision stands for."""
    repository = hub.repositories.get(repo)
    return repository, hub.repositories.read_commit(repo, hub.repositories.resolve(repository, revision))


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; raise `RefusalError` (413) beyond `limit` bytes."""
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > limit:
            raise RefusalError(413, f"The body is larger than the {limit} bytes that are allowed")
    return bytes(body)


async def read_json(request: Request) -> Mapping[str, Any]:
    """The body as a JSON object; an empty body is an empty object."""
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        data = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, f"The body is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RefusalError(400, f"The body is a JSON {type(data).__name__}, expected an object")
    return data


def text(data: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A string of a JSON object; raise `RefusalError` (400) when it is missing or something else."""
    value = data.get(key, default)
    if not isinstance(value, str):
        raise RefusalError(400, f"{key!r} must be a string, found {type(value).__name__}")
    return value


def objects_of(data: Mapping[str, Any], key: str, limit: int) -> list[Mapping[str, Any]]:
    """A list of objects in a JSON object; raise `RefusalError` (400) when it is something else or too long."""
    value = data.get(key)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RefusalError(400, f"{key!r} must be a list of objects")
    if len(value) > limit:
        raise RefusalError(413, f"{key!r} has {len(value)} entries, expected at most {limit}")
    return value


def flag(request: Request, name: str) -> bool:
    """Whether a query parameter is set to a true value."""
    return request.query_params.get(name, "false").lower() in ("true", "1")
