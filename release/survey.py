"""What the Hub shows of the repositories of a release: refs, trees and small files, each asked for once.

Trees and files are read at commits and so never change: they are kept on disk, and a second look asks for refs only.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from open360.release.hub import Hub
from open360.release.hub_errors import HubAnswerError, HubNotFoundError
from open360.release.hub_objects import Refs, RemoteFile, Repo, git_id_of
from open360.release.read_cache import ReadCache
from open360.release.remote_listing import at_once
from open360.schema.errors import SpecError
from open360.schema.serialization import parse_json

MAX_FILES = 2_000_000
TREE_FORMAT = "tree 2"

Progress = Callable[[int, int, str], None]
Place = tuple[Repo, str]  # a repository and a commit
ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class ListedRevision:
    """A branch or tag, the commit that it stood for, and the files of that commit."""

    repo: Repo
    revision: str
    commit: str
    files: Mapping[str, RemoteFile]

    @property
    def root(self) -> str:
        """How paths in it begin: `ORG/NAME@REVISION`, `datasets/ORG/NAME@REVISION`."""
        return revision_root(self.repo, self.revision)


def revision_root(repo: Repo, revision: str) -> str:
    """How the paths of files of a revision begin."""
    return f"{'datasets/' if repo.type == 'dataset' else ''}{repo.id}@{revision}"


class Survey:
    """Looks at repositories on a Hub. Every method may raise HubError.

    `progress` is told of each revision that is listed. What the survey holds in memory is bounded: at most
    `MAX_FILES` files in all, equal names and equal files held once.
    """

    def __init__(self, hub: Hub, cache: ReadCache | None = None, progress: Progress | None = None) -> None:
        self.hub, self.progress = hub, progress
        self.cache = cache if cache is not None else ReadCache()
        self._refs: dict[Repo, Refs | None] = {}
        self._trees: dict[Place, Mapping[str, RemoteFile] | None] = {}
        self._files = 0
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, ...], threading.Lock] = {}
        self._paths: dict[str, str] = {}
        self._equal: dict[RemoteFile, RemoteFile] = {}

    def refs(self, repo: Repo) -> Refs | None:
        """Branches and tags of a repository; None when there is no such repository, or it is not public."""
        self.look_at([repo])
        return self._refs[repo]

    def look_at(self, repos: Iterable[Repo]) -> None:
        """Ask for the refs of many repositories at once, each one time."""
        new = [repo for repo in dict.fromkeys(repos) if repo not in self._refs]
        self._refs.update(zip(new, self._at_once(self._ask_refs, new), strict=True))

    def revision(self, repo: Repo, revision: str) -> ListedRevision | None:
        """A branch, tag or commit with its files; None when it is not there."""
        return self.revisions([(repo, revision)])[repo, revision]

    def revisions(self, wanted: Iterable[tuple[Repo, str]]) -> dict[tuple[Repo, str], ListedRevision | None]:
        """Many revisions at once: one tree call for each commit that was not seen before."""
        commits = self.commits(wanted)
        names = {(repo, commit): revision for (repo, revision), commit in commits.items() if commit is not None}
        trees = self.trees(names, names)
        found: dict[tuple[Repo, str], ListedRevision | None] = {}
        for (repo, revision), commit in commits.items():
            files = trees[repo, commit] if commit is not None else None
            found[repo, revision] = (
                ListedRevision(repo=repo, revision=revision, commit=commit, files=files)
                if commit is not None and files is not None
                else None
            )
        return found

    def commits(self, wanted: Iterable[tuple[Repo, str]]) -> dict[tuple[Repo, str], str | None]:
        """The commit that each branch, tag or commit stands for; None when there is no such thing."""
        pairs = list(dict.fromkeys(wanted))
        self.look_at(repo for repo, _ in pairs)
        return {(repo, revision): self._commit_of(repo, revision) for repo, revision in pairs}

    def trees(
        self, places: Iterable[Place], names: Mapping[Place, str] | None = None
    ) -> dict[Place, Mapping[str, RemoteFile] | None]:
        """The files at many commits; None for a commit that is not there. `names` are for the progress."""
        places = list(dict.fromkeys(places))
        new = [place for place in places if place not in self._trees]
        finished = 0

        def done(place: Place) -> None:
            nonlocal finished
            finished += 1
            if self.progress is not None:
                self.progress(finished, len(new), (names or {}).get(place, place[1][:12]))

        for place, files in zip(new, self._at_once(self._tree, new, done), strict=True):
            self._trees[place] = self._shared(place, files) if files is not None else None
        return {place: self._trees[place] for place in places}

    def known(self, places: Iterable[Place]) -> int:
        """How many of these commits can be listed without a call."""
        return sum(place in self._trees or self.cache.has(self._tree_key(place)) for place in set(places))

    def read(self, listed: ListedRevision, path: str, max_bytes: int) -> bytes:
        """A whole file of a revision. Equal files of several revisions are read once."""
        return self.read_at(listed.repo, listed.commit, path, max_bytes, listed.files[path])

    def read_at(self, repo: Repo, commit: str, path: str, max_bytes: int, file: RemoteFile | None = None) -> bytes:
        """A whole file at a commit. It is kept when its bytes are those that `file` promises, else under its commit."""
        content = (file.sha256 or file.git_id) if file is not None else None
        key = (self.hub.endpoint, repo.type, repo.id, content or f"{commit}/{path}")
        with self._reading(key):
            found = self.cache.find(key)
            if found is not None and len(found) <= max_bytes:
                return found
            data = self.hub.read(repo, commit, path, max_bytes)
            if content is None or content in (hashlib.sha256(data).hexdigest(), git_id_of(data)):
                self.cache.keep(key, data)
            return data

    def listed_file(self, repo: Repo, commit: str, path: str) -> RemoteFile | None:
        """A file of a commit that was listed before; None for any other."""
        return (self._trees.get((repo, commit)) or {}).get(path)

    def _reading(self, key: tuple[str, ...]) -> threading.Lock:
        """What one thread holds while it reads something, so that others find it in the cache."""
        with self._lock:
            return self._locks.setdefault(key, threading.Lock())

    def _at_once(
        self, call: Callable[[ItemT], ResultT], items: list[ItemT], done: Callable[[ItemT], None] | None = None
    ) -> list[ResultT]:
        return at_once(call, items, done=done, give_up=self.hub.pacer.give_up) if items else []

    def _ask_refs(self, repo: Repo) -> Refs | None:
        try:
            return self.hub.refs(repo)
        except HubNotFoundError:
            return None

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        refs = self._refs[repo]
        if refs is None:
            return None
        if len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
            return revision
        return refs.commit_of(revision)

    def _tree_key(self, place: Place) -> tuple[str, ...]:
        repo, commit = place
        return (self.hub.endpoint, repo.type, repo.id, commit, TREE_FORMAT)

    def _tree(self, place: Place) -> Mapping[str, RemoteFile] | None:
        key = self._tree_key(place)
        kept = self.cache.find(key)
        files = decoded_tree(kept) if kept is not None else None
        if files is None:
            try:
                files = self.hub.tree(*place)
            except HubNotFoundError:
                return None
            self.cache.keep(key, encoded_tree(files))
        return files

    def _shared(self, place: Place, files: Mapping[str, RemoteFile]) -> Mapping[str, RemoteFile]:
        """The same tree of names and files that were there before, as far as there are equal ones."""
        self._files += len(files)
        if self._files > MAX_FILES:
            problem = f"expected at most {MAX_FILES} files in all revisions of a release, found more"
            raise HubAnswerError(f"{place[0]} at {place[1][:12]}", self.hub.endpoint, problem)
        return {self._paths.setdefault(p, p): self._equal.setdefault(f, f) for p, f in files.items()}


def encoded_tree(files: Mapping[str, RemoteFile]) -> bytes:
    """A tree for the cache: a JSON list of path, bytes, sha256 and git id."""
    rows = [[path, file.bytes, file.sha256, file.git_id] for path, file in files.items()]
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()


def decoded_tree(data: bytes) -> dict[str, RemoteFile] | None:
    """A tree from the cache; None for what is none."""
    try:
        rows = parse_json(data, "cached tree")
        files = {path: RemoteFile(bytes=size, sha256=sha256, git_id=git_id) for path, size, sha256, git_id in rows}
    except (SpecError, TypeError, ValueError):
        return None
    sound = all(
        isinstance(path, str)
        and type(file.bytes) is int
        and isinstance(file.sha256, str | None)
        and isinstance(file.git_id, str | None)
        for path, file in files.items()
    )
    return files if sound else None
