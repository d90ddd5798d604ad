"""What the rules look at without downloading: the documents, the listing, small files, checkpoints as they are seen.

Nothing in a release is believed: every read is bounded, and a file that is missing, too large or not readable is
`None`, with the reason kept for the rule that reports it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from open360.release.declarations import Declarations
from open360.release.evidence.addresses import Addresses, is_public
from open360.release.findings import EvidenceLevel, Location, Part, Sample
from open360.release.foreign_target import ForeignTarget
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.hub_target import HubTarget
from open360.release.remote_listing import at_once
from open360.release.survey import ListedRevision, Survey
from open360.release.targets import ListedFile, Target, TargetError, UnsafePathError
from open360.schema.errors import SpecError
from open360.schema.manifest import CheckpointRecord, FileRecord
from open360.schema.run import Run
from open360.schema.serialization import parse_json

MAX_DOCUMENT_BYTES = 16 << 20
IN_A_FOLDER = "the target is a folder: what is on the Hub is not looked at"
NO_MANIFEST = "there is no manifest that says which checkpoints there are"

Progress = Callable[[int, int, str], None]
ItemT = TypeVar("ItemT")


class CannotCheckError(Exception):
    """Raised by a check that cannot be made here; the rule is then skipped with this reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class DoesNotApplyError(CannotCheckError):
    """Raised where a release makes no claim of the kind: there is nothing to look at, and nothing is left out."""


@dataclass(frozen=True, kw_only=True)
class SeenCheckpoint:
    """A checkpoint that is there, whoever published it, with its files as they are listed.

    Paths of its files begin with `root`: its folder in the release, or `ORG/NAME@REVISION`. `record` is what the
    manifest says of it, `listed` what the Hub shows, where there is such a thing. Of another name of a checkpoint
    (`main`), `alias_of` names the checkpoint; its step is 0 where nobody has stated it.
    """

    run: Run
    name: str
    step: int
    tokens: int | None
    root: str
    files: Mapping[str, RemoteFile]
    record: CheckpointRecord | None = None
    listed: ListedRevision | None = None
    alias_of: str | None = None

    @property
    def declared_name(self) -> str:
        """The name under which the series speaks of it."""
        return self.alias_of or self.name

    def path(self, inside: str) -> str:
        """A file of it as the target names it."""
        return f"{self.root}/{inside}"


class ListedView(Declarations):
    """A release under validation, as its documents and its listing show it. `level` is how much may be looked at."""

    def __init__(
        self,
        target: Target,
        level: EvidenceLevel,
        progress: Progress | None = None,
        sample: Sample = Sample(),  # noqa: B008
    ) -> None:
        super().__init__(target)
        self.target, self.level, self.progress, self.sample = target, level, progress, sample
        if isinstance(target, ForeignTarget | HubTarget):
            target.survey.progress = progress
        self.unreadable: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    @cached_property
    def listing(self) -> dict[str, ListedFile]:
        """Every file that the target shows."""
        return self.target.listing()

    @property
    def foreign(self) -> ForeignTarget | None:
        """The target, when open360 did not make the release."""
        return self.target if isinstance(self.target, ForeignTarget) else None

    @cached_property
    def survey(self) -> Survey:
        """What the Hub shows. Raises CannotCheckError for a folder."""
        self._needs_listing()
        if isinstance(self.target, ForeignTarget | HubTarget):
            return self.target.survey
        raise DoesNotApplyError(IN_A_FOLDER)

    def _needs_listing(self) -> None:
        if not self.level.includes(EvidenceLevel.LISTED):
            raise CannotCheckError(f"level '{self.level}' does not look so closely: it needs level 'listed'")

    @cached_property
    def addresses(self) -> Addresses:
        """Looks at addresses outside the Hub. Raises CannotCheckError for a folder."""
        endpoint = urlsplit(self.survey.hub.endpoint).hostname or ""
        return Addresses(self.progress, public_only=is_public(endpoint))

    @cached_property
    def repositories(self) -> list[Repo]:
        """Repositories on the Hub that the release names. Raises CannotCheckError for a folder."""
        if isinstance(self.target, ForeignTarget):
            return list(dict.fromkeys([*self.target.model_repos, *(repo for repo, _ in self.target.data_repos)]))
        if isinstance(self.target, HubTarget) and self.manifest.published is not None:
            told = self.manifest.published.repositories
            named = [Repo(id=place.repo, type=place.repo_type) for place in told]
            return list(dict.fromkeys([self.target.repo, *named]))
        raise DoesNotApplyError(IN_A_FOLDER)

    @cached_property
    def checkpoints(self) -> list[SeenCheckpoint]:
        """Checkpoints that are there, run by run and step by step. Raises CannotCheckError without a manifest."""
        if self.foreign is not None:
            self._needs_listing()
            return list(self._listed_checkpoints(self.foreign))
        if self.readable_manifest is None:
            raise CannotCheckError(NO_MANIFEST)
        return [
            SeenCheckpoint(
                run=run,
                name=checkpoint.name,
                step=checkpoint.step,
                tokens=checkpoint.tokens,
                root=checkpoint.folder,
                files={f.path: RemoteFile(bytes=f.bytes, sha256=f.sha256, git_id=None) for f in checkpoint.files},
                record=checkpoint,
            )
            for run, record in self.built_runs()
            for checkpoint in record.checkpoints
        ]

    def _listed_checkpoints(self, target: ForeignTarget) -> Iterator[SeenCheckpoint]:
        for run in self.spec.all_runs():
            if run.hub.model is None:
                continue
            repo = Repo(id=run.hub.model, type="model")
            for plan in self.plans(run):
                listed = target.revisions.get((repo, plan.revision))
                if listed is not None:
                    yield SeenCheckpoint(
                        run=run,
                        name=plan.name,
                        step=plan.step,
                        tokens=plan.tokens,
                        root=listed.root,
                        files=listed.files,
                        listed=listed,
                    )

    @cached_property
    def aliased_checkpoints(self) -> list[SeenCheckpoint]:
        """Revisions that are there and declared to be other names of checkpoints: no steps of their own."""
        if self.foreign is None:
            return []
        self._needs_listing()
        return list(self._listed_aliases(self.foreign))

    def _listed_aliases(self, target: ForeignTarget) -> Iterator[SeenCheckpoint]:
        for run in self.spec.all_runs():
            if run.hub.model is None or run.series is None:
                continue
            plans = {plan.name: plan for plan in self.plans(run)}
            revisions = {plan.revision for plan in plans.values()}
            for alias, name in run.series.aliases.items():
                listed = target.revisions.get((Repo(id=run.hub.model, type="model"), alias))
                if listed is not None and alias not in revisions:
                    plan = plans.get(name)
                    yield SeenCheckpoint(
                        run=run,
                        name=alias,
                        step=plan.step if plan is not None else 0,
                        tokens=plan.tokens if plan is not None else None,
                        root=listed.root,
                        files=listed.files,
                        listed=listed,
                        alias_of=name,
                    )

    @property
    def named_checkpoints(self) -> list[SeenCheckpoint]:
        """Checkpoints, and other names of them."""
        return [*self.checkpoints, *self.aliased_checkpoints]

    @cached_property
    def loaded_checkpoints(self) -> list[SeenCheckpoint]:
        """The sample of them whose content is looked at."""
        return self.sampled(self.checkpoints, lambda seen: f"{seen.run.name}/{seen.name}")

    def checkpoints_by_run(self, checkpoints: list[SeenCheckpoint] | None = None) -> list[list[SeenCheckpoint]]:
        """Checkpoints that are there (or those given), those of each run together."""
        runs: dict[str, list[SeenCheckpoint]] = {}
        for seen in self.checkpoints if checkpoints is None else checkpoints:
            runs.setdefault(seen.run.name, []).append(seen)
        return list(runs.values())

    def place_of_checkpoint(self, seen: SeenCheckpoint, field: str = "") -> Location:
        """Where the release speaks of a checkpoint: its place in the manifest, or its revision."""
        if seen.record is None:
            return Location(path=seen.root)
        run = next(run for run in self.manifest.runs if run.name == seen.run.name)
        return self.place_of(run, seen.record, field)

    def sampled(self, items: Iterable[ItemT], name: Callable[[ItemT], str]) -> list[ItemT]:
        """The share of `items` that is looked at, at least one: chosen by the sample's seed and each item's name."""
        listed = list(items)
        count = math.ceil(len(listed) * self.sample.share)
        ranked = sorted(range(len(listed)), key=lambda i: self._rank(name(listed[i])))
        return [listed[index] for index in sorted(ranked[:count])]

    def _rank(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.sample.seed}\n{name}".encode()).digest()

    def count_of(self, part: Part) -> int:
        """How many things of a kind the release has, as far as it can be said."""
        spec, manifest = self.readable_spec, self.readable_manifest
        if part is Part.RELEASE or spec is None:
            return 1
        counts: dict[Part, Callable[[], int]] = {
            Part.RUN: lambda: len(spec.all_runs()),
            Part.CORPUS: lambda: len(spec.corpora),
            Part.SOURCE: lambda: sum(len(corpus.sources) for corpus in spec.corpora),
            Part.EVALUATION: lambda: len(spec.evaluations),
            Part.CHECKPOINT: lambda: len(self.checkpoints),
            Part.CHUNK: lambda: sum(len(run.chunks) for run in manifest.runs) if manifest else 0,
            Part.FILE: lambda: len(self.files) if manifest else len(self.listing),
            Part.REPOSITORY: lambda: len(self.repositories),
        }
        return counts[part]()

    def listed_below(self, folder: str) -> set[str]:
        """Paths inside a folder of the release that the target shows."""
        return self._listed_by_folder.get(folder, set())

    @cached_property
    def _listed_by_folder(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        roots = {seen.root for seen in self.checkpoints}
        for path in self.listing:
            for end in (i for i, character in enumerate(path) if character == "/"):
                if path[:end] in roots:
                    found.setdefault(path[:end], set()).add(path[end + 1 :])
        return found

    def leads_out(self, path: str) -> bool:
        """Whether a path is a link that leaves the release."""
        try:
            self.target.local_path(path)
        except UnsafePathError:
            return True
        except TargetError:
            return False
        return False

    @cached_property
    def files(self) -> list[FileRecord]:
        """Every file that the manifest names, by its path in the release."""
        return self.manifest.all_files()

    def read(self, path: str, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes | None:
        """A whole file; None when it cannot be had, with the reason in `unreadable`."""
        try:
            return self.target.read(path, max_bytes)
        except TargetError as error:
            self.unreadable[path] = str(error)
        except OSError as error:
            self.unreadable[path] = str(error.strerror or error)
        return None

    def fetch(self, inside: str, checkpoints: Iterable[SeenCheckpoint]) -> None:
        """Bring a small file of many checkpoints into the cache of a far target at once; equal ones one time."""
        if isinstance(self.target, ForeignTarget | HubTarget):
            files = ((seen, seen.files[inside]) for seen in checkpoints if inside in seen.files)
            different = {file.sha256 or file.git_id: seen.path(inside) for seen, file in files}
            at_once(self.read, different.values(), give_up=self.target.survey.hub.pacer.give_up)

    def document(self, path: str) -> Any:
        """Plain data of a JSON file; None when it cannot be had, with the reason in `unreadable`."""
        data = self.read(path)
        if data is None:
            return None
        try:
            return parse_json(data, path, MAX_DOCUMENT_BYTES)
        except SpecError as error:
            self.unreadable[path] = "; ".join(problem.message for problem in error.problems)
            return None
