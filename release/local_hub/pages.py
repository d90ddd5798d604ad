"""A page for people: which repositories and revisions this Hub holds."""

from __future__ import annotations

import html
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from open360.release.local_hub.names import RepoId
from open360.release.local_hub.repositories import Repository
from open360.release.local_hub.requests import at_revision, hub_of, part, repo_of

_STYLE = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}td{padding:.1em 1.5em .1em 0}"


def _page(title: str, body: str) -> Response:
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
    return HTMLResponse(f"{head}<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>")


async def index_page(request: Request) -> Response:
    """List all repositories with their branches and tags."""
    hub = hub_of(request)
    repositories = await run_in_threadpool(lambda: [hub.repositories.get(repo) for repo in hub.repositories.all()])
    sections = "".join(_section(repository) for repository in repositories)
    return _page("Local Hub", sections or "<p>No repositories yet.</p>")


def _section(repository: Repository) -> str:
    refs = [*repository.tags.items(), *repository.branches.items()]
    rows = "".join(
        f"<tr><td>{_tree_link(repository.id, name)}</td><td><code>{sha[:12]}</code></td></tr>" for name, sha in refs
    )
    return f"<h2>{html.escape(repository.id.web_path)}</h2><table>{rows}</table>"


def _tree_link(repo: RepoId, revision: str) -> str:
    return f'<a href="/{quote(repo.web_path)}/tree/{quote(revision, safe="")}">{html.escape(revision)}</a>'


async def tree_page(request: Request) -> Response:
    """List the files of a repository at a revision."""
    hub, repo, revision = hub_of(request), repo_of(request), part(request, "revision")
    _, commit = await run_in_threadpool(at_revision, hub, repo, revision)
    prefix = f"/{quote(repo.web_path)}/resolve/{commit.id}"
    rows = "".join(
        f'<tr><td><a href="{prefix}/{quote(path)}">{html.escape(path)}</a></td><td>{entry.size:,} bytes</td></tr>'
        for path, entry in sorted(commit.files.items())
    )
    note = f"<p>{html.escape(commit.title)} <code>{commit.id}</code> {commit.date}</p>"
    return _page(f"{repo.web_path} at {revision}", f"{note}<table>{rows}</table>")
