"""The local Hub as a web application: which route answers which URL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from open360.release.local_hub import (
    content_routes,
    faults,
    file_routes,
    front_matter,
    lfs_routes,
    pages,
    repo_routes,
    traffic,
    xet_routes,
)
from open360.release.local_hub.objects import ObjectStore
from open360.release.local_hub.quota import ApiQuota, KeepQuota
from open360.release.local_hub.refusals import MovedError, RefusalError
from open360.release.local_hub.repositories import RepositoryStore
from open360.release.local_hub.requests import Hub
from open360.release.local_hub.xet_store import XetStore

PART_SIZE = 256 << 20  # larger files are sent in parts, where a client can
FORMAT = "1\n"

Endpoint = Callable[[Request], Awaitable[Response]]


class KeepEncodedPath:
    """Middleware that routes by the path as it came: `%2F` inside a branch name is no separator."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1").partition("?")[0]}
        await self._app(scope, receive, send)


def create_app(
    directory: Path,
    *,
    xet: bool = True,
    allow_faults: bool = False,
    part_size: int = PART_SIZE,
    api_quota: ApiQuota | None = None,
) -> Starlette:
    """Make the app that serves the Hub in `directory`, which is created if need be.

    Args:
        directory: holds everything; a second app may serve the same one.
        xet: offer the Xet transfer, as the real Hub does; without it clients need `HF_HUB_DISABLE_XET=1`.
        allow_faults: a rehearsal tool: let clients order errors and cut connections at `/.open360/faults`.
        part_size: bytes above which an LFS upload is cut into parts.
        api_quota: a rehearsal tool: API calls beyond it are refused, as the real Hub does.

    Raises:
        RefusalError: the folder was written by a newer version of this program.
    """
    _check_format(directory)
    hub = Hub(
        repositories=RepositoryStore(directory / "repos"),
        objects=ObjectStore(directory),
        xet=XetStore(directory / "xet"),
        offers_xet=xet,
        part_size=part_size,
    )
    hub.objects.forget_old_uploads()
    hub.xet.forget_old_uploads()
    counted, ordered = traffic.Traffic(), faults.Faults()
    middleware = [Middleware(KeepEncodedPath), Middleware(traffic.CountTraffic, traffic=counted)]
    if api_quota is not None:
        middleware.append(Middleware(KeepQuota, quota=api_quota))
    if allow_faults:
        middleware.append(Middleware(faults.MeetFaults, faults=ordered))
    app = Starlette(
        routes=_routes(allow_faults=allow_faults),
        middleware=middleware,
        exception_handlers={RefusalError: _refuse, HTTPException: _no_such_route, ClientDisconnect: _give_up},
    )
    app.state.hub, app.state.traffic, app.state.faults = hub, counted, ordered
    return app


def _check_format(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / "format"
    if not marker.exists():
        marker.write_text(FORMAT)
    elif marker.read_text() != FORMAT:
        found = marker.read_text().strip()
        raise RefusalError(500, f"{directory}: expected a local Hub of format {FORMAT.strip()}, found {found}")


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusalError):
        raise error
    if isinstance(error, MovedError):
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.url.path.replace(f"/{error.old}", f"/{error.new}", 1)
        return Response(status_code=error.status, headers={"Location": path + query})
    headers = {"X-Error-Message": error.message.replace("\n", " ").encode("ascii", "replace").decode()[:1000]}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message, **error.extra}, error.status, {**headers, **error.headers})


async def _give_up(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"The local Hub does not know {request.method} {request.url.path}"
    return JSONResponse({"error": message}, status, {"X-Error-Message": message[:1000]})


def _routes(*, allow_faults: bool) -> list[Route]:
    files = [route for prefix in ("/datasets", "/spaces", "") for route in _file_routes(prefix)]
    return [*_control_routes(allow_faults=allow_faults), *_shared_routes(), *_xet_routes(), *_api_routes(), *files]


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=[method])


def _control_routes(*, allow_faults: bool) -> list[Route]:
    routes = [
        _route("GET", "/", pages.index_page),
        _route("GET", "/.open360/stats", traffic.show_traffic),
        _route("DELETE", "/.open360/stats", traffic.reset_traffic),
    ]
    if allow_faults:
        routes += [
            _route("POST", "/.open360/faults", faults.add_fault),
            _route("GET", "/.open360/faults", faults.list_faults),
            _route("DELETE", "/.open360/faults", faults.clear_faults),
        ]
    return routes


def _shared_routes() -> list[Route]:
    return [
        _route("GET", "/api/whoami-v2", repo_routes.show_user),
        _route("GET", "/api/agent-harnesses", repo_routes.list_harnesses),
        _route("POST", "/api/validate-yaml", front_matter.validate_yaml),
        _route("POST", "/api/repos/create", repo_routes.create_repo),
        _route("DELETE", "/api/repos/delete", repo_routes.delete_repo),
        _route("POST", "/api/repos/move", repo_routes.move_repo),
        _route("PUT", "/api/uploads/{upload}", lfs_routes.put_object),
        _route("PUT", "/api/uploads/{upload}/parts/{number}", lfs_routes.put_part),
        _route("POST", "/api/uploads/{upload}/complete", lfs_routes.complete_parts),
        _route("POST", "/api/lfs-verify", lfs_routes.verify),
    ]


def _xet_routes() -> list[Route]:
    return [
        _route("POST", "/xet/{store}/v1/xorbs/{prefix}/{hash}", xet_routes.put_xorb),
        _route("POST", "/xet/{store}/v1/shards", xet_routes.put_shard),
        _route("GET", "/xet/{store}/{version}/reconstructions/{hash}", xet_routes.get_reconstruction),
        _route("GET", "/xet/{store}/xorbs/{hash}", xet_routes.get_xorb),
        _route("POST", "/xet/{store}/v1/telemetry", xet_routes.take_telemetry),
        _route("POST", "/v1/telemetry", xet_routes.take_telemetry),
    ]


def _api_routes() -> list[Route]:
    repo = "/api/{kind}/{namespace}/{name}"
    return [
        _route("GET", repo, repo_routes.show_repo),
        _route("GET", f"{repo}/revision/{{revision}}", repo_routes.show_repo),
        _route("GET", f"{repo}/refs", repo_routes.list_refs),
        _route("GET", f"{repo}/commits/{{revision}}", repo_routes.list_commits),
        _route("POST", f"{repo}/branch/{{revision}}", repo_routes.create_branch),
        _route("DELETE", f"{repo}/branch/{{revision}}", repo_routes.delete_branch),
        _route("POST", f"{repo}/tag/{{revision}}", repo_routes.create_tag),
        _route("DELETE", f"{repo}/tag/{{revision}}", repo_routes.delete_tag),
        _route("POST", f"{repo}/super-squash/{{revision}}", repo_routes.squash_branch),
        _route("POST", f"{repo}/preupload/{{revision}}", content_routes.preupload),
        _route("POST", f"{repo}/commit/{{revision}}", content_routes.commit),
        _route("GET", f"{repo}/tree/{{revision}}", content_routes.list_tree),
        _route("GET", f"{repo}/tree/{{revision}}/{{path:path}}", content_routes.list_tree),
        _route("POST", f"{repo}/paths-info/{{revision}}", content_routes.paths_info),
        _route("POST", f"{repo}/lfs-files/duplicate", content_routes.duplicate_large_files),
        _route("GET", f"{repo}/xet-read-token/{{revision}}", xet_routes.give_token),
        _route("GET", f"{repo}/xet-write-token/{{revision}}", xet_routes.give_token),
        _route("GET", "/api/{kind}/{name}", repo_routes.refuse_bare_name),
        _route("GET", "/api/{kind}/{name}/revision/{revision}", repo_routes.refuse_bare_name),
        _route("GET", "/api/{kind}/{name}/tree/{revision}", repo_routes.refuse_bare_name),
    ]


def _file_routes(prefix: str) -> list[Route]:
    repo = prefix + "/{namespace}/{name}"
    return [
        _route("GET", f"{repo}/resolve/{{revision}}/{{path:path}}", file_routes.resolve_file),
        _route("GET", f"{repo}/tree/{{revision}}", pages.tree_page),
        _route("POST", f"{repo}.git/info/lfs/objects/batch", lfs_routes.batch),
        _route("GET", prefix + "/{name}/resolve/{revision}/{path:path}", repo_routes.refuse_bare_name),
    ]
