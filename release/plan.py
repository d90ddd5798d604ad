"""The plan of a publication: what is created, uploaded, deleted and left, and what that costs. Pure data.

What the Hub would refuse or drop is refused here, before anything is sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open360.release.hub_limits import (
    CALLS_PER_HOUR,
    COMMITS_PER_HOUR,
    FILES_PER_PREUPLOAD,
    FILES_PER_TREE_PAGE,
    batches,
    refuse_what_the_hub_drops,
)
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.placement import MAIN, Homes, Placement, place
from open360.schema.layout import MANIFEST_FILE, REPORT_FILE
from open360.schema.manifest import Manifest
from open360.schema.spec import ReleaseSpec

CARD_FILE = "README.md"
LAST_FILES = (MANIFEST_FILE, CARD_FILE, REPORT_FILE)  # of the primary repo: committed together, when all else is there

OWN_FOLDERS = ("runs", "corpora", "chunks", "steps")


@dataclass(frozen=True, kw_only=True)
class RemoteRevision:
    """A branch as it is on the Hub: its commit, and its files."""

    commit: str
    files: Mapping[str, RemoteFile]


@dataclass(frozen=True, kw_only=True)
class RemoteRepo:
    """A repository as it is on the Hub. `first_commit` is where new branches start."""

    first_commit: str
    revisions: Mapping[str, RemoteRevision]
    tags: Mapping[str, str]


RemoteListing = Mapping[Repo, RemoteRepo]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a revision lacks, holds already, and holds too much."""

    upload: tuple[Placement, ...]
    leave: tuple[Placement, ...]
    delete: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the revision holds what it should."""
        return not self.upload and not self.delete


@dataclass(frozen=True, kw_only=True)
class RevisionPlan:
    """What happens to one branch. `wanted` are all its files; `commit` is its head, None for a new branch."""

    repo: Repo
    revision: str
    commit: str | None
    wanted: tuple[Placement, ...]
    difference: Difference

    @property
    def whole(self) -> bool:
        """Whether the branch is one checkpoint, which changes in a single commit."""
        return self.revision != MAIN

    @property
    def bytes(self) -> int:
        """Bytes to upload."""
        return sum(file.bytes for file in self.difference.upload)

    @property
    def commits(self) -> int:
        """Commits to make."""
        if self.difference.empty:
            return 0
        return 1 if self.whole else max(len(list(batches(self.difference.upload))), 1)

    @property
    def api_calls(self) -> int:
        """Calls to make, transfers of content not counted."""
        files = len(self.difference.upload)
        pages = -(-max(len(self.wanted), 1) // FILES_PER_TREE_PAGE)
        return (self.commit is None) + self.commits * (2 + pages) + -(-files // FILES_PER_PREUPLOAD)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A publication before it happens. `tag` is set on every repository, on the primary one last of all.

    `complete`: it has happened already, and nothing is left to do.
    """

    name: str
    version: str
    tag: str
    primary: Repo
    create: tuple[Repo, ...]
    revisions: tuple[RevisionPlan, ...]
    last: tuple[Placement, ...]
    repositories: tuple[Repo, ...]
    complete: bool = False

    @property
    def bytes(self) -> int:
        """Bytes to upload, before the Hub's deduplication."""
        return sum(revision.bytes for revision in self.revisions)

    @property
    def commits(self) -> int:
        """Commits to make: those of all revisions, and the last one with the manifest."""
        return 0 if self.complete else sum(revision.commits for revision in self.revisions) + 1

    @property
    def api_calls(self) -> int:
        """Calls to make, transfers of content not counted."""
        if self.complete:
            return 0
        calls = sum(revision.api_calls for revision in self.revisions)
        return calls + 3 * len(self.create) + 2 * len(self.repositories) + 4

    @property
    def hours(self) -> float:
        """Hours that the Hub's quotas ask for at least, whatever the bandwidth."""
        return max(self.commits / COMMITS_PER_HOUR, self.api_calls / CALLS_PER_HOUR)

    def as_json(self) -> dict[str, Any]:
        """The plan for a program to read."""
        return {
            "plan_version": 1,
            "release": self.name,
            "version": self.version,
            "tag": self.tag,
            "complete": self.complete,
            "primary": self.primary.id,
            "create": [{"repo": repo.id, "type": repo.type} for repo in self.create],
            "revisions": [
                {
                    "repo": revision.repo.id,
                    "type": revision.repo.type,
                    "revision": revision.revision,
                    "commit": revision.commit,
                    "upload": [
                        {"path": f.path, "bytes": f.bytes, "sha256": f.sha256} for f in revision.difference.upload
                    ],
                    "leave": [file.path for file in revision.difference.leave],
                    "delete": list(revision.difference.delete),
                    "commits": revision.commits,
                }
                for revision in self.revisions
            ],
            "last": [MANIFEST_FILE, *(file.path for file in self.last)],
            "bytes": self.bytes,
            "commits": self.commits,
            "api_calls": self.api_calls,
            "hours": round(self.hours, 2),
        }


def make_plan(
    spec: ReleaseSpec, manifest: Manifest, remote: RemoteListing, to: str | None = None, extra: Iterable[Placement] = ()
) -> Plan:
    """What it takes to bring the Hub from `remote` to the release.

    Args:
        remote: every repository of the release that exists, with the revisions of the release that exist. Digests
            of small files must have been filled in where they are known to be equal (`release/remote_listing.py`).
        to: namespace that replaces that of every repository.
        extra: generated files and attachments: cards, report.
    Raises:
        PublishRefusedError: the Hub would refuse or drop something.
        PlacementError: the spec does not say where to.
    """
    homes = Homes(spec, to)
    placements = [*place(spec, manifest, to), *extra]
    refuse_what_the_hub_drops(placements)
    grouped: dict[tuple[Repo, str], list[Placement]] = defaultdict(list)
    last: list[Placement] = []
    for file in placements:
        if (file.repo, file.revision) == (homes.primary, MAIN) and file.path in LAST_FILES:
            last.append(file)
        else:
            grouped[file.repo, file.revision].append(file)
    repositories = sorted(
        {repo for repo, _ in grouped} | {homes.primary}, key=lambda repo: (repo == homes.primary, repo)
    )
    return Plan(
        name=spec.name,
        version=spec.version,
        tag=f"v{spec.version}",
        primary=homes.primary,
        create=tuple(repo for repo in repositories if repo not in remote),
        revisions=tuple(
            _revision_plan(repo, revision, files, remote)
            for (repo, revision), files in sorted(grouped.items(), key=lambda item: _order(homes, *item[0]))
        ),
        last=tuple(last),
        repositories=tuple(repositories),
    )


def difference(wanted: Sequence[Placement], files: Mapping[str, RemoteFile], *, whole: bool) -> Difference:
    """What a revision with `files` lacks. `whole`: everything in it is ours, as on a checkpoint's branch."""
    paths = {file.path for file in wanted}
    equal = [
        file
        for file in wanted
        if file.path in files and files[file.path].sha256 == file.sha256 and file.bytes == files[file.path].bytes
    ]
    there = {file.path for file in equal}
    return Difference(
        upload=tuple(file for file in wanted if file.path not in there),
        leave=tuple(equal),
        delete=tuple(sorted(path for path in files if path not in paths and _is_ours(path, whole=whole))),
    )


def _order(homes: Homes, repo: Repo, revision: str) -> tuple[bool, bool, Repo, str]:
    return (repo == homes.primary and revision == MAIN, repo.type == "model", repo, revision)


def _revision_plan(repo: Repo, revision: str, files: list[Placement], remote: RemoteListing) -> RevisionPlan:
    there = remote[repo].revisions.get(revision) if repo in remote else None
    wanted = tuple(sorted(files, key=lambda file: file.path))
    return RevisionPlan(
        repo=repo,
        revision=revision,
        commit=there.commit if there is not None else None,
        wanted=wanted,
        difference=difference(wanted, there.files if there is not None else {}, whole=revision != MAIN),
    )


def _is_ours(path: str, *, whole: bool) -> bool:
    """Whether a file that is not wanted is a left-over of an earlier version.

    On `main` those are our folders, and weights at the root (old shards beside new ones would be loaded).
    """
    if path == ".gitattributes":
        return False
    return whole or path.split("/")[0] in OWN_FOLDERS or ("/" not in path and ".safetensors" in path)
