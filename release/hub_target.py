"""A release on the Hub, read from a tag through its manifest: so never half of one.

Release-folder paths are mapped by the manifest's commits: checkpoints and chunks where the manifest says, corpora
beside the chunks of the first run that uses them, all else on the commit of the tag.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from open360.release.hub import Hub
from open360.release.hub_errors import HubNotFoundError
from open360.release.hub_objects import Repo
from open360.release.placement import corpus_of_path, corpus_run
from open360.release.survey import Place, Survey
from open360.release.targets import (
    RELEASE_FILES,
    RELEASE_FOLDERS,
    ListedFile,
    MissingFileError,
    TargetError,
    check_path,
)
from open360.schema.layout import MANIFEST_FILE, SPEC_FILE, path_in_data_repo, run_folder
from open360.schema.manifest import MAX_MANIFEST_BYTES, FileRecord, Manifest, Publication
from open360.schema.serialization import MAX_SPEC_BYTES, load_manifest

_COMMIT = re.compile(r"[0-9a-f]{40}")
_VERSION_TAG = re.compile(r"v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class NotVisibleError(TargetError):
    """A repository holds no release that may be read: it has no tag of a version."""

    def __init__(self, repo: Repo, wanted: str | None, known: list[str]) -> None:
        self.repo, self.wanted = repo, wanted
        if wanted is None:
            text = (
                f"{repo}: expected a tag 'v<version>', found none: no release is visible here (one may be on its way)"
            )
        else:
            text = f"{repo}: expected the tag '{wanted}', found {', '.join(known[-8:]) or 'no tag'}"
        super().__init__(f"{text}; name a tag that exists with --tag")


class Location(NamedTuple):
    """Where a file of the release is on the Hub."""

    repo: Repo
    commit: str
    path: str


class View(NamedTuple):
    """A revision, and what its paths are in the release folder.

    `folder` is a checkpoint's; `run` is that of the chunks; `named` are further paths that are of the release.
    """

    repo: Repo
    commit: str
    folder: str | None = None
    run: str | None = None
    named: frozenset[str] = frozenset()

    def release_path(self, inside: str) -> str | None:
        """The release-folder path of a file of this revision; None for what is only on the Hub (cards)."""
        if self.folder is not None:
            return None if inside == ".gitattributes" else f"{self.folder}/{inside}"
        top = inside.split("/")[0]
        if self.run is not None and top in ("chunks", "steps"):
            return f"{run_folder(self.run)}/{inside}"
        return inside if top in RELEASE_FOLDERS or inside in RELEASE_FILES or inside in self.named else None


def version_key(tag: str) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]] | None:
    """Order of version tags by SemVer precedence; None for any other tag."""
    found = _VERSION_TAG.fullmatch(tag)
    if found is None:
        return None
    parts = found[4].split(".") if found[4] else []
    # Numbers come before words; a version without a pre-release part comes after those with one.
    before = tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)
    return int(found[1]), int(found[2]), int(found[3]), not parts, before


def newest_version(tags: list[str]) -> str | None:
    """The newest version tag: a pre-release only where there is nothing else."""
    keyed = [(key, tag) for tag in tags if (key := version_key(tag)) is not None]
    final = [pair for pair in keyed if pair[0][3]]
    return max(final or keyed)[1] if keyed else None


def open_hub_target(
    repo_id: str,
    *,
    tag: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    hub: Hub | None = None,
    survey: Survey | None = None,
) -> HubTarget:
    """The release in the model repository `repo_id`, at a tag: the newest version when None, or a full commit.

    Raises NotVisibleError when there is no such tag, HubError.
    """
    survey = survey if survey is not None else Survey(hub if hub is not None else Hub(endpoint, token))
    repo = Repo(id=repo_id, type="model")
    if tag is not None and _COMMIT.fullmatch(tag):
        return HubTarget(survey, repo, tag, tag)
    refs = survey.refs(repo)
    if refs is None:
        raise HubNotFoundError(str(repo), survey.hub.endpoint)
    tags = refs.tags
    chosen = tag if tag is not None else newest_version(list(tags))
    if chosen is None or chosen not in tags:
        raise NotVisibleError(repo, tag, sorted(tags))
    return HubTarget(survey, repo, chosen, tags[chosen])


class HubTarget:
    """A release on the Hub at one commit of its primary repository. Trees and small files are cached on disk."""

    def __init__(self, survey: Survey, repo: Repo, tag: str, commit: str) -> None:
        self.survey, self.repo, self.tag, self.commit = survey, repo, tag, commit
        self.hub, self.cache = survey.hub, survey.cache

    @property
    def label(self) -> str:
        """`ORG/NAME@TAG`."""
        return f"{self.repo.id}@{self.tag}"

    @property
    def spec_path(self) -> str:
        """`release.yaml`."""
        return SPEC_FILE

    def spec_bytes(self) -> bytes:
        """The bytes of `release.yaml`. Raises MissingFileError."""
        return self.read(SPEC_FILE, MAX_SPEC_BYTES)

    def manifest_bytes(self) -> bytes | None:
        """The bytes of `manifest.json`, or None when the tag is of something else than a release."""
        try:
            return self.read(MANIFEST_FILE, MAX_MANIFEST_BYTES)
        except MissingFileError:
            return None

    @cached_property
    def manifest(self) -> Manifest:
        """The published manifest. Raises TargetError, SpecError."""
        data = self.manifest_bytes()
        if data is None:
            raise MissingFileError(self.label, MANIFEST_FILE, "this tag is no release that open360 has published")
        manifest = load_manifest(data, f"{self.label}/{MANIFEST_FILE}")
        if manifest.published is None:
            raise TargetError(
                f"{self.label}: expected a published manifest, found a built one; publish it with 'open360 publish'"
            )
        return manifest

    def places(self) -> list[Place]:
        """Every commit that the release is spread over, each once. Raises TargetError, SpecError."""
        return list(dict.fromkeys((view.repo, view.commit) for view in self._views()))

    def listing(self) -> dict[str, ListedFile]:
        """Every file of the release, by one tree call a revision, sixteen at a time; none for one seen before.

        Files that a revision holds and the manifest does not name are listed, too.
        """
        views = self._views()
        names = {(view.repo, view.commit): view.folder or "" for view in views}
        trees = self.survey.trees(names, names)
        found: dict[str, ListedFile] = {}
        for view in views:
            tree = trees[view.repo, view.commit]
            if tree is None:
                raise HubNotFoundError(f"{view.repo} at {view.commit[:12]}", self.hub.endpoint)
            for inside, remote in tree.items():
                path = view.release_path(inside)
                if path is not None:
                    found[path] = ListedFile(path=path, bytes=remote.bytes, sha256=remote.sha256, commit=view.commit)
        return dict(sorted(found.items()))

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file of at most `max_bytes`."""
        repo, commit, inside = self.locate(path)
        listed = self.survey.listed_file(repo, commit, inside)
        return self._ours(path, lambda: self.survey.read_at(repo, commit, inside, max_bytes, listed))

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)` of a file."""
        repo, commit, inside = self.locate(path)
        return self._ours(path, lambda: self.hub.read_range(repo, commit, inside, begin, end))

    def local_path(self, path: str) -> Path | None:
        """None: nothing of it is on this disk."""
        check_path(self.label, path)
        return None

    def download(self, record: FileRecord, folder: Path) -> Path:
        """A whole file into `folder`, under its path in its repository; its bytes are for the caller to verify."""
        repo, commit, inside = self.locate(record.path)
        return self.hub.download(repo, commit, inside, folder, size=record.bytes, sha256=record.sha256)

    def locate(self, path: str) -> Location:
        """Where a file is on the Hub. Raises UnsafePathError."""
        check_path(self.label, path)
        if path in (SPEC_FILE, MANIFEST_FILE):
            return Location(self.repo, self.commit, path)
        if path in self._chunk_files:
            repo, commit = self._chunk_files[path]
            return Location(repo, commit, path_in_data_repo(path))
        parts = path.split("/")
        for depth in range(len(parts) - 1, 0, -1):
            folder = "/".join(parts[:depth])
            if folder in self._folders:
                return Location(*self._folders[folder], "/".join(parts[depth:]))
        corpus = corpus_of_path(path)
        run = corpus_run(self.manifest, corpus) if corpus is not None else None
        if run is not None:
            return Location(*self._place(run.chunks[0].published, run.chunks[0].name), path_in_data_repo(path))
        return Location(self.repo, self.commit, path)

    @cached_property
    def _chunk_files(self) -> dict[str, tuple[Repo, str]]:
        return {
            file.path: self._place(chunk.published, chunk.name)
            for run in self.manifest.runs
            for chunk in run.chunks
            for file in (chunk.file, chunk.step_table)
        }

    @cached_property
    def _folders(self) -> dict[str, tuple[Repo, str]]:
        return {
            checkpoint.folder: self._place(checkpoint.published, checkpoint.name)
            for run in self.manifest.runs
            for checkpoint in run.checkpoints
        }

    def _views(self) -> list[View]:
        views = [View(*place, folder=folder) for folder, place in self._folders.items()]
        for run in self.manifest.runs:
            views += {View(*self._place(chunk.published, chunk.name), run=run.name) for chunk in run.chunks}
        named = frozenset(file.path for file in self.manifest.files)
        return [*views, View(self.repo, self.commit, named=named)]

    def _place(self, published: Publication | None, name: str) -> tuple[Repo, str]:
        if published is None:
            raise TargetError(f"{self.label}: its manifest does not say where '{name}' is; see 'open360 validate'")
        return Repo(id=published.repo, type=published.repo_type), published.commit

    def _ours(self, path: str, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except HubNotFoundError as error:
            raise MissingFileError(self.label, path) from error
