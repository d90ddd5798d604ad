"""Repositories in a folder: commits, branches and tags, written whole or not at all.

Layout, below `repos/<kind>/<namespace>/<name>/`:

* `repository.json`: branches, tags and dates. Replacing it is what makes a commit, branch or tag real.
* `commits/<id>.json`: one commit with the whole list of its files; never changed.
* `lock`: held while `repository.json` is being replaced, by any process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open360.release.local_hub import git_objects
from open360.release.local_hub.names import KINDS, RepoId, is_commit_prefix
from open360.release.local_hub.refusals import MovedError, RefusalError, no_repository, no_revision
from open360.schema import atomic


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file of a commit. `sha256` is set for large files, whose `blob_id` is that of their LFS pointer."""

    blob_id: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit and all its files; `date` is ISO 8601 in UTC."""

    id: str
    parent: str | None
    title: str
    message: str
    date: str
    files: Mapping[str, FileEntry]

    @functools.cached_property
    def folders(self) -> dict[str, str]:
        """Folder -> tree id; the root is the empty string."""
        return git_objects.tree_ids({path: entry.blob_id for path, entry in self.files.items()})


@dataclass(frozen=True, kw_only=True)
class Repository:
    """What changes in a repository: refs and visibility."""

    id: RepoId
    created: str
    private: bool = False
    branches: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def now() -> str:
    """The time of now as the Hub writes it, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


class RepositoryStore:
    """All repositories of one folder. Safe for several threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trash = root.parent / "trash"
        self._known: dict[RepoId, tuple[tuple[int, int, int], Repository]] = {}
        for kind in KINDS:
            (root / kind).mkdir(parents=True, exist_ok=True)

    def _folder(self, repo: RepoId) -> Path:
        return self._root / repo.kind / repo.namespace / repo.name

    def all(self) -> list[RepoId]:
        """Every repository, sorted."""
        found = (path.parent for path in self._root.glob("*/*/*/repository.json"))
        kinds = {str(kind): kind for kind in KINDS}
        return sorted(
            RepoId(kind=kinds[path.parent.parent.name], namespace=path.parent.name, name=path.name) for path in found
        )

    def create(self, repo: RepoId, *, private: bool, first_files: Mapping[str, FileEntry]) -> Repository:
        """Make a repository with one commit on `main`; raise `RefusalError` (409) when it exists."""
        with self._locked(repo, create=True):
            if (self._folder(repo) / "repository.json").exists():
                raise RefusalError(409, f"You already created this {repo.kind[:-1]} repo")
            first = self._write_commit(repo, parent=None, title="initial commit", message="", files=first_files)
            made = Repository(id=repo, created=now(), private=private, branches={"main": first.id})
            self._write(made)
            return made

    def delete(self, repo: RepoId) -> None:
        """Remove a repository; its objects stay, since other repositories may share them."""
        with self._locked(repo):
            self.get(repo)
            self._trash.mkdir(exist_ok=True)
            grave = self._trash / uuid.uuid4().hex
            self._folder(repo).rename(grave)
        shutil.rmtree(grave)

    def get(self, repo: RepoId) -> Repository:
        """Read a repository; raise `RefusalError` (404, RepoNotFound) when there is none."""
        try:
            # Every writer replaces the file, so what has the same inode, time and size has the same content.
            status = (self._folder(repo) / "repository.json").stat()
        except (FileNotFoundError, NotADirectoryError):
            raise self._moved(repo) or no_repository(str(repo)) from None
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._known.get(repo)
        if known is None or known[0] != version:
            known = self._known[repo] = (version, self._load(repo))
        return known[1]

    def rename(self, repo: RepoId, new: RepoId) -> None:
        """Give a repository another name; the old one leads there. Raise `RefusalError` (404, 409)."""
        with self._locked(repo):
            self.get(repo)
            if self._folder(new).exists():
                raise RefusalError(409, f"The name {new} is taken")
            self._folder(new).parent.mkdir(parents=True, exist_ok=True)
            self._folder(repo).rename(self._folder(new))
        atomic.write_bytes(self._folder(repo) / "moved.json", json.dumps({"to": str(new)}).encode())

    def _moved(self, repo: RepoId) -> RefusalError | None:
        try:
            told = json.loads((self._folder(repo) / "moved.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return MovedError(str(repo), told["to"])

    def _load(self, repo: RepoId) -> Repository:
        """Read a repository as it is now; a writer, who holds the lock, starts from nothing else."""
        try:
            data = json.loads((self._folder(repo) / "repository.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise no_repository(str(repo)) from None
        return Repository(
            id=repo,
            created=data["created"],
            private=data["private"],
            branches=data["branches"],
            tags=data["tags"],
        )

    def change(self, repo: RepoId, edit: Callable[[Repository], Repository]) -> Repository:
        """Replace a repository's refs with what `edit` makes of them, while no other writer can."""
        with self._locked(repo):
            changed = edit(self._load(repo))
            self._write(changed)
            return changed

    def commit(
        self,
        repo: RepoId,
        branch: str,
        *,
        title: str,
        message: str,
        edit: Callable[[Commit], Mapping[str, FileEntry]],
        keep_history: bool = True,
    ) -> Commit:
        """Add a commit to a branch: `edit` gets the head and returns the new list of files.

        Raises:
            RefusalError: 404 when the branch does not exist, or what `edit` raises.
        """
        with self._locked(repo):
            state = self._load(repo)
            if branch not in state.branches:
                raise no_revision(branch)
            head = self.read_commit(repo, state.branches[branch])
            parent = head.id if keep_history else None
            made = self._write_commit(repo, parent=parent, title=title, message=message, files=edit(head))
            self._write(replace(state, branches={**state.branches, branch: made.id}))
            return made

    def resolve(self, repository: Repository, revision: str) -> str:
        """The commit that a branch, tag, commit id or its beginning (7 or more digits) stands for."""
        branch = revision.removeprefix("refs/heads/")
        tag = revision.removeprefix("refs/tags/")
        if branch in repository.branches:
            return repository.branches[branch]
        if tag in repository.tags:
            return repository.tags[tag]
        if is_commit_prefix(revision):
            commits = self._folder(repository.id) / "commits"
            found = [revision] if (commits / f"{revision}.json").exists() else _beginning(commits, revision)
            if len(found) == 1:
                return found[0]
        raise no_revision(revision)

    def read_commit(self, repo: RepoId, commit: str) -> Commit:
        """Read a commit that `resolve` has found."""
        try:
            return _load_commit(self._folder(repo) / "commits" / f"{commit}.json")
        except FileNotFoundError:
            raise no_revision(commit) from None

    def history(self, repo: RepoId, commit: str) -> Iterator[Commit]:
        """The commit and its ancestors, newest first."""
        at: str | None = commit
        while at is not None:
            found = self.read_commit(repo, at)
            yield found
            at = found.parent

    def add_commit(self, repo: RepoId, *, parent: str, title: str, files: Mapping[str, FileEntry]) -> Commit:
        """Write a commit that no branch leads to yet: `change` makes many of them real at once."""
        return self._write_commit(repo, parent=parent, title=title, message="", files=files)

    def _write(self, repository: Repository) -> None:
        data = {
            "created": repository.created,
            "private": repository.private,
            "branches": dict(repository.branches),
            "tags": dict(repository.tags),
        }
        path = self._folder(repository.id) / "repository.json"
        atomic.write_bytes(path, json.dumps(data, indent=1).encode() + b"\n")

    def _write_commit(
        self, repo: RepoId, *, parent: str | None, title: str, message: str, files: Mapping[str, FileEntry]
    ) -> Commit:
        seconds = int(time.time())
        root = git_objects.tree_ids({path: entry.blob_id for path, entry in files.items()})[""]
        text = f"{title}\n\n{message}" if message else title
        made = Commit(
            id=git_objects.commit_id(tree=root, parent=parent, seconds=seconds, text=text),
            parent=parent,
            title=title,
            message=message,
            date=time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds)),
            files=dict(files),
        )
        path = self._folder(repo) / "commits" / f"{made.id}.json"
        if not path.exists():
            atomic.write_bytes(path, json.dumps(_commit_as_json(made)).encode())
        return made

    @contextlib.contextmanager
    def _locked(self, repo: RepoId, *, create: bool = False) -> Iterator[None]:
        folder = self._folder(repo)
        if create:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.exists():
            raise no_repository(str(repo))
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _beginning(commits: Path, prefix: str) -> list[str]:
    return [path.stem for path in commits.glob(f"{prefix}*.json")]


def _commit_as_json(commit: Commit) -> dict[str, Any]:
    files = {path: [entry.blob_id, entry.size, entry.sha256] for path, entry in sorted(commit.files.items())}
    return {
        "parent": commit.parent,
        "title": commit.title,
        "message": commit.message,
        "date": commit.date,
        "files": files,
    }


@functools.lru_cache(maxsize=32)
def _load_commit(path: Path) -> Commit:
    data = json.loads(path.read_bytes())
    files = {
        name: FileEntry(blob_id=blob, size=size, sha256=sha256) for name, (blob, size, sha256) in data["files"].items()
    }
    return Commit(
        id=path.stem,
        parent=data["parent"],
        title=data["title"],
        message=data["message"],
        date=data["date"],
        files=files,
    )
