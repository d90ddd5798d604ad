"""A release that open360 did not make: its repositories on the Hub, read by a spec that somebody else wrote.

Paths are `ORG/NAME@REVISION/path`, with `datasets/` before it for data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from open360.release.hub_objects import Repo
from open360.release.survey import ListedRevision, Survey
from open360.release.targets import FileBoundsError, ListedFile, MissingFileError
from open360.schema.manifest import FileRecord
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, checkpoints
from open360.schema.spec import ReleaseSpec

MAIN = "main"
# A draft says so among what is not confirmed; whoever has checked it strikes the line.
GUESS = "all of this is a guess: steps are read off names, and order, batch and lineage are not known"


@dataclass(frozen=True, kw_only=True)
class ForeignSpec:
    """A spec of a foreign release: where it is from (`catalogue entry 'pythia'`), and as a document."""

    origin: str
    path: str
    data: bytes
    spec: ReleaseSpec
    is_guess: bool = False


class ForeignTarget:
    """Repositories on the Hub, as a spec describes them. Every method may raise HubError."""

    def __init__(self, label: str, document: ForeignSpec, survey: Survey) -> None:
        self.label, self.document, self.survey = label, document, survey

    @property
    def spec_path(self) -> str:
        """How findings name the spec."""
        return self.document.path

    def spec_bytes(self) -> bytes:
        """The spec that describes the release."""
        return self.document.data

    def manifest_bytes(self) -> bytes | None:
        """None: a release that open360 did not publish has no manifest."""
        return None

    @cached_property
    def model_repos(self) -> dict[Repo, list[Run]]:
        """Model repositories, each with the runs that it publishes."""
        found: dict[Repo, list[Run]] = {}
        for run in self.document.spec.all_runs():
            if run.hub.model is not None:
                found.setdefault(Repo(id=run.hub.model, type="model"), []).append(run)
        return found

    @cached_property
    def data_repos(self) -> list[tuple[Repo, str]]:
        """Data repositories, each at the revision that the spec pins, else `main`."""
        spec = self.document.spec
        found: dict[Repo, str] = {}
        for corpus in spec.corpora:
            if corpus.repository is not None and corpus.repository.dataset is not None:
                found[Repo(id=corpus.repository.dataset, type="dataset")] = corpus.repository.revision or MAIN
        for run in spec.all_runs():
            repo = getattr(run.order, "repo", None)
            for name in (run.hub.data, repo):
                if name is not None:
                    found.setdefault(Repo(id=name, type="dataset"), MAIN)
        return list(found.items())

    def wanted(self) -> Iterator[tuple[Repo, str]]:
        """Every revision that the spec speaks of and the Hub has, once."""
        self.survey.look_at([*self.model_repos, *(repo for repo, _ in self.data_repos)])
        for repo, runs in self.model_repos.items():
            yield repo, MAIN
            refs = self.survey.refs(repo)
            there = {**refs.branches, **refs.tags} if refs is not None else {}
            for run in runs:
                yield from ((repo, revision) for revision in declared_revisions(self.document.spec, run, there))
        for merge in self.document.spec.merges:
            if merge.hub.model is not None and merge.revision is not None:
                yield Repo(id=merge.hub.model, type="model"), merge.revision
        yield from self.data_repos

    @cached_property
    def revisions(self) -> dict[tuple[Repo, str], ListedRevision]:
        """All of them with their files."""
        found = self.survey.revisions(self.wanted())
        return {pair: listed for pair, listed in found.items() if listed is not None}

    def listing(self) -> dict[str, ListedFile]:
        """Every file of every revision that the spec speaks of."""
        return {
            f"{listed.root}/{path}": ListedFile(
                path=f"{listed.root}/{path}", bytes=file.bytes, sha256=file.sha256, commit=listed.commit
            )
            for listed in self.revisions.values()
            for path, file in listed.files.items()
        }

    def locate(self, path: str) -> tuple[ListedRevision, str]:
        """The revision and the path in it that a path of the listing names. Raises MissingFileError."""
        for end in (i for i, character in enumerate(path) if character == "/"):
            listed = self._by_root.get(path[:end])
            if listed is not None and path[end + 1 :] in listed.files:
                return listed, path[end + 1 :]
        raise MissingFileError(self.label, path)

    @cached_property
    def _by_root(self) -> dict[str, ListedRevision]:
        return {listed.root: listed for listed in self.revisions.values()}

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file of at most `max_bytes`; equal files are read once. Raises MissingFileError, FileBoundsError."""
        listed, inside = self.locate(path)
        size = listed.files[inside].bytes
        if size > max_bytes:
            raise FileBoundsError(self.label, path, f"at most {max_bytes} bytes", f"{size} bytes")
        return self.survey.read(listed, inside, max_bytes)

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)` of a file. Raises MissingFileError."""
        listed, inside = self.locate(path)
        return self.survey.hub.read_range(listed.repo, listed.commit, inside, begin, end)

    def local_path(self, path: str) -> Path | None:
        """None: nothing of it is on this disk. Raises MissingFileError."""
        self.locate(path)
        return None

    def download(self, record: FileRecord, folder: Path) -> Path:
        """A whole file into `folder`, under its path in its repository."""
        listed, inside = self.locate(record.path)
        return self.survey.hub.download(
            listed.repo, listed.commit, inside, folder, size=record.bytes, sha256=record.sha256
        )


class PartOfTarget(ForeignTarget):
    """A foreign release of which only some revisions are looked at."""

    def __init__(self, target: ForeignTarget, places: Sequence[tuple[Repo, str]]) -> None:
        super().__init__(target.label, target.document, target.survey)
        self._places = list(dict.fromkeys(places))

    @cached_property
    def data_repos(self) -> list[tuple[Repo, str]]:
        """Data repositories among them."""
        return [place for place in self._places if place[0].type == "dataset"]

    def wanted(self) -> Iterator[tuple[Repo, str]]:
        """These and no others."""
        self.survey.look_at(repo for repo, _ in self._places)
        yield from self._places


def declared_revisions(spec: ReleaseSpec, run: Run, there: dict[str, str]) -> list[str]:
    """Revisions of a run that its spec declares and `there` holds: checkpoints, aliases, and those without a step."""
    if run.series is None:
        return []
    try:
        plans = checkpoints(run, spec.corpus_of(run))
    except ScheduleError:
        plans = []
    names = [plan.revision for plan in plans] + [*run.series.aliases, *run.series.unplaced]
    return [name for name in dict.fromkeys(names) if name in there]
