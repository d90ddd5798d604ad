"""What there is on a Hub, as data: repositories, refs, files; and what is sent to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

RepoType = Literal["model", "dataset"]


@dataclass(frozen=True, kw_only=True, order=True)
class Repo:
    """A repository on the Hub."""

    id: str
    type: RepoType

    def __str__(self) -> str:
        return f"{self.type} repo {self.id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteFile:
    """A file at a commit. The Hub knows the sha256 of large files, and the git blob id of small ones."""

    bytes: int
    sha256: str | None
    git_id: str | None


@dataclass(frozen=True, kw_only=True)
class Refs:
    """Branches and tags of a repository, each with its commit; `renamed` is its name now, when it is another one."""

    branches: dict[str, str]
    tags: dict[str, str]
    renamed: str | None = None

    def commit_of(self, revision: str) -> str | None:
        """The commit of a branch, else of a tag, of that name."""
        return self.branches.get(revision) or self.tags.get(revision)


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file to be uploaded: its path in the repository, its content, and what its sha256 must be."""

    path: str
    source: Path | bytes
    sha256: str


def git_id_of(data: bytes) -> str:
    """The id that git gives to a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
