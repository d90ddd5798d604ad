"""What the Hub shows of the repositories of a release: refs, trees and small files, each asked for once.

Trees and files are read at commits and so never change: they are kept on disk, and a second look asks for refs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from open360.release.hub import Hub
from open360.release.hub_errors import HubNotFoundError
from open360.release.hub_objects import Refs, RemoteFile, Repo
from open360.release.read_cache import ReadCache
from open360.release.remote_listing import at_once
from open360.schema.serialization import canonical_json, parse_json

Progress = Callable[[int, int, str], None]


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
    """Looks at repositories on a Hub. Every method may raise HubError."""

    def __init__(self, hub: Hub, cache: ReadCache | None = None, progress: Progress | None = None) -> None:
        self.hub, self.progress = hub, progress
        self.cache = cache if cache is not None else ReadCache()
        self._refs: dict[Repo, Refs | None] = {}
        self._revisions: dict[tuple[Repo, str], ListedRevision | None] = {}

    def refs(self, repo: Repo) -> Refs | None:
        """Branches and tags of a repository; None when there is no such repository, or it is not public."""
        if repo not in self._refs:
            try:
                self._refs[repo] = self.hub.refs(repo)
            except HubNotFoundError:
                self._refs[repo] = None
        return self._refs[repo]

    def revision(self, repo: Repo, revision: str) -> ListedRevision | None:
        """A branch, tag or commit with its files; None when it is not there."""
        return self.revisions([(repo, revision)])[repo, revision]

    def revisions(self, wanted: Iterable[tuple[Repo, str]]) -> dict[tuple[Repo, str], ListedRevision | None]:
        """Many revisions at once: one tree call for each commit that was not seen before."""
        wanted = list(dict.fromkeys(wanted))
        new = [pair for pair in wanted if pair not in self._revisions]
        commits = {pair: self._commit_of(*pair) for pair in new}
        places = list(dict.fromkeys((repo, commit) for (repo, _), commit in commits.items() if commit is not None))
        trees = dict(zip(places, at_once(lambda place: self._tree(*place), places), strict=True))
        for (repo, revision), commit in commits.items():
            files = trees[repo, commit] if commit is not None else None
            self._revisions[repo, revision] = (
                ListedRevision(repo=repo, revision=revision, commit=commit, files=files)
                if commit is not None and files is not None
                else None
            )
        return {pair: self._revisions[pair] for pair in wanted}

    def read(self, listed: ListedRevision, path: str, max_bytes: int) -> bytes:
        """A whole file of a revision. Equal files of several revisions are read once."""
        file = listed.files[path]
        content = file.sha256 or file.git_id or f"{listed.commit}/{path}"
        key = (self.hub.endpoint, listed.repo.type, listed.repo.id, content)
        found = self.cache.find(key)
        if found is not None and len(found) <= max_bytes:
            return found
        data = self.hub.read(listed.repo, listed.commit, path, max_bytes)
        self.cache.keep(key, data)
        return data

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        refs = self.refs(repo)
        if refs is None:
            return None
        if len(revision) == 40 and all(c in "0123456789abcdef" for c in revision):
            return revision
        return refs.branches.get(revision) or refs.tags.get(revision)

    def _tree(self, repo: Repo, commit: str) -> Mapping[str, RemoteFile] | None:
        key = (self.hub.endpoint, repo.type, repo.id, commit, "tree")
        kept = self.cache.find(key)
        if kept is not None:
            rows = parse_json(kept, "cached tree")
            return {path: RemoteFile(bytes=size, sha256=sha, git_id=git) for path, size, sha, git in rows}
        try:
            files = self.hub.tree(repo, commit)
        except HubNotFoundError:
            return None
        rows = [[path, file.bytes, file.sha256, file.git_id] for path, file in files.items()]
        self.cache.keep(key, canonical_json(rows))
        return files
