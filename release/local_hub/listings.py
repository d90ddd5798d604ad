"""Files, folders and commits in the Hub's JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from open360.release.local_hub import git_objects
from open360.release.local_hub.names import RepoId
from open360.release.local_hub.repositories import Commit, FileEntry, Repository
from open360.release.local_hub.requests import Hub

Json = dict[str, Any]


def describe_file(hub: Hub, path: str, entry: FileEntry) -> Json:
    """A file as the tree and paths-info endpoints show it."""
    described: Json = {"type": "file", "oid": entry.blob_id, "size": entry.size, "path": path}
    if entry.sha256 is not None:
        described["lfs"] = {"oid": entry.sha256, **_lfs_sizes(entry)}
        if hub.offers_xet and (xet_hash := hub.xet.find(entry.sha256)):
            described["xetHash"] = xet_hash
    return described


def describe_folder(path: str, tree_id: str) -> Json:
    """A folder as the tree and paths-info endpoints show it."""
    return {"type": "directory", "oid": tree_id, "size": 0, "path": path}


def _lfs_sizes(entry: FileEntry) -> Json:
    pointer = git_objects.lfs_pointer(entry.sha256 or "", entry.size)
    return {"size": entry.size, "pointerSize": len(pointer)}


def list_paths(commit: Commit, folder: str, *, recursive: bool) -> list[str]:
    """The files and folders below a folder, sorted; the root is the empty string."""
    prefix = f"{folder}/" if folder else ""
    candidates = [*commit.files, *(name for name in commit.folders if name)]
    below = (path for path in candidates if path.startswith(prefix))
    return sorted(path for path in below if recursive or "/" not in path[len(prefix) :])


def describe(hub: Hub, commit: Commit, path: str) -> Json:
    """A file or folder of a commit, whichever it is."""
    if path in commit.files:
        return describe_file(hub, path, commit.files[path])
    return describe_folder(path, commit.folders[path])


def with_last_commits(hub: Hub, repo: RepoId, commit: Commit, entries: list[Json]) -> list[Json]:
    """Add to each entry the last commit that changed it, and the Hub's verdict of a scan (nothing was scanned)."""
    missing = {entry["path"]: entry["oid"] for entry in entries}
    last: dict[str, Commit] = {}
    newer = commit
    for at in hub.repositories.history(repo, commit.id):
        for path in [path for path, oid in missing.items() if _object_id(at, path) != oid]:
            last[path] = newer
            del missing[path]
        if not missing:
            break
        newer = at
    expanded = []
    for entry in entries:
        changed = last.get(entry["path"], newer)
        extra: Json = {"lastCommit": {"id": changed.id, "title": changed.title, "date": changed.date}}
        if entry["type"] == "file":
            extra["securityFileStatus"] = {"status": "unscanned", "avScan": None, "pickleImportScan": None}
        expanded.append({**entry, **extra})
    return expanded


def _object_id(commit: Commit, path: str) -> str | None:
    entry = commit.files.get(path)
    return entry.blob_id if entry else commit.folders.get(path)


def describe_commit(commit: Commit, *, formatted: bool) -> Json:
    """A commit as the history endpoint shows it."""
    described: Json = {
        "id": commit.id,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": "local"}],
        "date": commit.date,
    }
    if formatted:
        described["formatted"] = {"title": commit.title, "message": commit.message}
    return described


def describe_repository(repository: Repository, commit: Commit, *, blobs: bool) -> Json:
    """A repository at a revision, as the info endpoint shows it."""
    described: Json = {
        "_id": repository.branches["main"][:24],
        "id": str(repository.id),
        "author": repository.id.namespace,
        "sha": commit.id,
        "createdAt": repository.created,
        "lastModified": commit.date,
        "private": repository.private,
        "disabled": False,
        "gated": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [_sibling(path, entry, blobs=blobs) for path, entry in sorted(commit.files.items())],
    }
    if repository.id.kind == "models":
        described["modelId"] = str(repository.id)
    return described


def _sibling(path: str, entry: FileEntry, *, blobs: bool) -> Json:
    if not blobs:
        return {"rfilename": path}
    sibling: Json = {"rfilename": path, "size": entry.size, "blobId": entry.blob_id}
    if entry.sha256 is not None:
        sibling["lfs"] = {"sha256": entry.sha256, **_lfs_sizes(entry)}
    return sibling


def describe_refs(refs: Mapping[str, str], folder: str) -> Iterable[Json]:
    """Branches (`heads`) or tags as the refs endpoint shows them."""
    return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": sha} for name, sha in sorted(refs.items())]
