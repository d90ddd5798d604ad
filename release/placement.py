"""Where each file of a release goes on the Hub. The rule of `open360.schema.layout`, applied to a whole release.

* A checkpoint's folder is the root of a branch of its run's model repository.
* Chunks, step tables and corpora go to `main` of a data repository.
* All else goes to `main` of the primary model repository; the last checkpoint of a run also to `main` of its own
  model repository, so that it loads without a revision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from open360.release.hub_objects import Repo
from open360.schema.errors import Open360Error
from open360.schema.layout import path_in_data_repo
from open360.schema.manifest import CheckpointRecord, FileRecord, Manifest, RunRecord
from open360.schema.schedule import checkpoints
from open360.schema.spec import ReleaseSpec

MAIN = "main"
Content = bytes


class PlacementError(Open360Error):
    """The spec does not say where a part of the release is to be published."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One file and where it goes. `source` is its release-folder path; `content` is set for what is generated."""

    repo: Repo
    revision: str
    path: str
    source: str
    bytes: int
    sha256: str
    content: Content | None = None


class Homes:
    """The repositories of a release. `to` replaces the namespace of every one."""

    def __init__(self, spec: ReleaseSpec, to: str | None = None) -> None:
        self._spec, self._to = spec, to
        root = spec.root_run()
        if root is None:
            raise PlacementError(f"release '{spec.name}' has no run; add one to 'runs' in release.yaml")
        self.primary = self.model(root.name)

    def model(self, run: str) -> Repo:
        """The model repository of a run."""
        declared = self._spec.run(run).hub.model
        return Repo(id=self._named(run, declared, run), type="model")

    def data(self, run: str) -> Repo:
        """The data repository of a run: the declared one, else its model repository's name with `-data`."""
        declared = self._spec.run(run).hub.data
        return Repo(id=self._named(run, declared, self.model(run).id.split("/")[1] + "-data"), type="dataset")

    def revisions(self, run: str) -> dict[str, str]:
        """The branch of every declared checkpoint of a run, by its name."""
        declared = self._spec.run(run)
        return {plan.name: plan.revision for plan in checkpoints(declared, self._spec.corpus_of(declared))}

    def _named(self, run: str, declared: str | None, default: str) -> str:
        if self._to is not None:
            return f"{self._to}/{declared.split('/')[1] if declared is not None else default}"
        if declared is not None:
            return declared
        model = self._spec.run(run).hub.model
        if model is None:
            raise PlacementError(
                f"run '{run}' names no repository to publish to; add 'hub: {{model: ORG/NAME}}' to it, or use --to ORG"
            )
        return f"{model.split('/')[0]}/{default}"


def corpus_run(manifest: Manifest, corpus: str) -> RunRecord | None:
    """The run in whose data repository a corpus is published: the first that has chunks of it."""
    return next((run for run in manifest.runs if run.corpus == corpus and run.chunks), None)


def corpus_of_path(path: str) -> str | None:
    """The corpus whose folder a release-folder path lies in."""
    parts = path.split("/")
    return parts[1] if parts[0] == "corpora" and len(parts) > 2 else None


def last_checkpoint(run: RunRecord) -> CheckpointRecord | None:
    """The checkpoint of a run with the highest step."""
    return max(run.checkpoints, key=lambda checkpoint: checkpoint.step, default=None)


def place(spec: ReleaseSpec, manifest: Manifest, to: str | None = None) -> list[Placement]:
    """Every file that the manifest names, with its place; the files of last checkpoints have two.

    Raises PlacementError when the spec does not name a repository, and there is no `to`.
    """
    homes = Homes(spec, to)
    found = list(_documents(manifest, homes))
    for run in manifest.runs:
        model, revisions = homes.model(run.name), homes.revisions(run.name)
        for chunk in run.chunks:
            data = homes.data(run.name)
            found += [_placed(data, MAIN, path_in_data_repo(f.path), f, f.path) for f in (chunk.file, chunk.step_table)]
        last = last_checkpoint(run)
        for checkpoint in run.checkpoints:
            revision = revisions.get(checkpoint.name, checkpoint.name)
            for file in checkpoint.files:
                source = f"{checkpoint.folder}/{file.path}"
                found.append(_placed(model, revision, file.path, file, source))
                if checkpoint is last and "/" not in file.path:
                    found.append(_placed(model, MAIN, file.path, file, source))
            if checkpoint.trace is not None:
                found.append(
                    _placed(homes.primary, MAIN, checkpoint.trace.path, checkpoint.trace, checkpoint.trace.path)
                )
    return found


def _documents(manifest: Manifest, homes: Homes) -> Iterator[Placement]:
    for file in manifest.files:
        corpus = corpus_of_path(file.path)
        run = corpus_run(manifest, corpus) if corpus is not None else None
        if run is not None:
            yield _placed(homes.data(run.name), MAIN, path_in_data_repo(file.path), file, file.path)
        else:
            yield _placed(homes.primary, MAIN, file.path, file, file.path)


def _placed(repo: Repo, revision: str, path: str, file: FileRecord, source: str) -> Placement:
    return Placement(repo=repo, revision=revision, path=path, source=source, bytes=file.bytes, sha256=file.sha256)
