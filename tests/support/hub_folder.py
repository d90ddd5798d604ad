"""Writes repositories straight into the folder of a local Hub: quick, also for thousands of revisions."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from open360.release.local_hub.names import RepoId, parse_repo
from open360.release.local_hub.objects import ObjectStore
from open360.release.local_hub.repositories import FileEntry, RepositoryStore

LARGE = (".safetensors", ".bin", ".pt", ".npy", ".parquet", ".zst", ".gz", ".idx")


@dataclass(frozen=True, kw_only=True)
class Unstored:
    """A large file that is listed with a size and a digest, and whose bytes are nowhere."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """A large file that is listed with the digest of `listed`; what is served is `served`, of the same size."""

    listed: bytes
    served: bytes


Content = bytes | Unstored | Swapped
Files = Mapping[str, Content]


def repo_id(name: str) -> RepoId:
    """`ORG/NAME`, or `datasets/ORG/NAME`."""
    *kind, namespace, repo = name.split("/")
    return parse_repo(kind[0] if kind else "models", namespace, repo)


class HubFolder:
    """The folder of a local Hub, which may be served at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repositories = RepositoryStore(root / "repos")
        self.objects = ObjectStore(root)

    def clear(self) -> None:
        """Remove all repositories."""
        shutil.rmtree(self.root / "repos")
        self.repositories = RepositoryStore(self.root / "repos")

    def write(self, name: str, revisions: Mapping[str, Files], tags: Mapping[str, str] | None = None) -> dict[str, str]:
        """Make a repository with these branches and, by the name of a branch, tags; returns the commit of each branch.

        `main` is there always. Each branch starts from the first commit, as a checkpoint's should.
        """
        with mock.patch.object(os, "fsync", lambda _: None):  # what a test writes need not last a power cut
            return self._write(repo_id(name), revisions, tags)

    def _write(self, repo: RepoId, revisions: Mapping[str, Files], tags: Mapping[str, str] | None) -> dict[str, str]:
        first = self.repositories.create(repo, private=False, first_files={}).branches["main"]
        heads: dict[str, str] = {"main": first}
        for branch, files in revisions.items():
            entries = {path: self._entry(path, content) for path, content in files.items()}
            made = self.repositories.add_commit(repo, parent=first, title=f"Add {branch}", files=entries)
            heads[branch] = made.id
        tagged = {tag: heads[branch] for tag, branch in (tags or {}).items()}
        self.repositories.change(repo, lambda state: dataclasses.replace(state, branches=heads, tags=tagged))
        return heads

    def add(self, name: str, branch: str, files: Files) -> None:
        """Add a commit with more files to a branch."""
        added = {path: self._entry(path, content) for path, content in files.items()}
        self.repositories.commit(
            repo_id(name), branch, title="Add files", message="", edit=lambda head: {**head.files, **added}
        )

    def rename(self, name: str, new: str) -> None:
        """Give a repository another name, to which the old one leads."""
        self.repositories.rename(repo_id(name), repo_id(new))

    def tag(self, name: str, tag: str, branch: str) -> None:
        """Tag what a branch stands for now."""
        self.repositories.change(
            repo_id(name),
            lambda state: dataclasses.replace(state, tags={**state.tags, tag: state.branches[branch]}),
        )

    def move(self, name: str, branch: str) -> None:
        """Add a commit that says nothing."""
        self.add(name, branch, {"NOTES.md": b"moved"})

    def _entry(self, path: str, content: Content) -> FileEntry:
        if isinstance(content, Unstored):
            return FileEntry(
                blob_id=hashlib.sha1(content.sha256.encode()).hexdigest(), size=content.bytes, sha256=content.sha256
            )
        if isinstance(content, Swapped):
            entry = self._large(content.listed)
            self.objects.large_path(entry.sha256 or "").write_bytes(content.served)
            return entry
        if not path.endswith(LARGE):
            return FileEntry(blob_id=self.objects.put_regular(content), size=len(content))
        return self._large(content)

    def _large(self, content: bytes) -> FileEntry:
        sha256 = hashlib.sha256(content).hexdigest()
        place = self.objects.large_path(sha256)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return FileEntry(blob_id=hashlib.sha1(content).hexdigest(), size=len(content), sha256=sha256)
