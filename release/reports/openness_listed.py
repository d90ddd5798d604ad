"""What the listing of a release shows of the components of the Model Openness Framework: weights, data, cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from open360.release.findings import EvidenceLevel
from open360.release.foreign_target import MAIN
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.hub_target import HubTarget
from open360.release.listed_view import CannotCheckError, SeenCheckpoint
from open360.release.reports.openness import Evidence
from open360.release.reports.openness_stated import StatedEvidence, joined, some
from open360.release.rules.storage import all_weight_files
from open360.schema.corpus import Corpus
from open360.schema.run import Run

CARD = "README.md"
OPTIMIZER_FILE = re.compile(r"(.*/)?[^/]*optim[^/]*")


class ListedEvidence(StatedEvidence):
    """Evidence that the listing gives, as far as the level lets one look at it."""

    @property
    def looked(self) -> bool:
        """Whether the listing may be asked for."""
        return self.release.level.includes(EvidenceLevel.LISTED)

    @cached_property
    def _with_weights(self) -> dict[str, list[SeenCheckpoint]]:
        """Checkpoints of each run of which a file with weights is listed."""
        found: dict[str, list[SeenCheckpoint]] = {}
        for seen in self.release.checkpoints:
            if any(self._is_listed(seen, path) for path in all_weight_files(seen.files)):
                found.setdefault(seen.run.name, []).append(seen)
        return found

    def _is_listed(self, seen: SeenCheckpoint, path: str) -> bool:
        return seen.listed is not None or seen.path(path) in self.release.listing

    def _unseen(self) -> Evidence | None:
        """Why the listing says nothing; None when it can be asked."""
        if not self.looked:
            return Evidence(there=None, because=f"level '{self.release.level}' does not look at files")
        if not self.published_runs:
            return self.unnamed("the spec says of no run where its weights are")
        try:
            self.release.checkpoints  # noqa: B018  asks for the listing
        except CannotCheckError as error:
            return Evidence(there=None, because=error.reason)
        return None

    def final_weights(self) -> Evidence:
        """The weights after the last step of every published run."""
        unseen = self._unseen()
        if unseen is not None:
            return unseen
        lacking = [run.name for run in self.published_runs if not self._has_final(run)]
        if lacking:
            return Evidence(there=False, because=f"no final weights are listed of {some(lacking)}")
        because = f"listed, of {some([run.name for run in self.published_runs])}"
        return Evidence(there=True, because=because, license=self.licenses.weights, path=self._address("model"))

    def _has_final(self, run: Run) -> bool:
        last = max((plan.step for plan in self.release.plans(run)), default=None)
        if any(seen.step == last for seen in self._with_weights.get(run.name, ())):
            return True
        if self.release.foreign is None or run.hub.model is None:
            return False
        unplaced = run.series.unplaced if run.series is not None else ()
        repo = Repo(id=run.hub.model, type="model")
        return any(all_weight_files(self._files_at(repo, revision)) for revision in (MAIN, *unplaced))

    def intermediate_weights(self) -> Evidence:
        """Weights before the last step of every published run that is pretrained here."""
        unseen = self._unseen()
        if unseen is not None:
            return unseen
        wanted = [run for run in self.published_runs if run.objective == "pretrain"] or self.published_runs
        seen, declared, lacking = 0, 0, []
        for run in wanted:
            plans = self.release.plans(run)
            last = max((plan.step for plan in plans), default=None)
            between = [found for found in self._with_weights.get(run.name, ()) if found.step != last]
            seen, declared = seen + len(between), declared + sum(plan.step != last for plan in plans)
            if not between:
                lacking.append(run.name)
        if lacking:
            return Evidence(there=False, because=f"none are listed of {some(lacking)}")
        because = f"listed: {seen:,} of {declared:,} that are declared"
        return Evidence(there=True, because=because, license=self.licenses.weights, path=self._address("model"))

    def metadata(self) -> Evidence:
        """The training configuration, or optimizer states."""
        for run in self.published_runs:
            if run.configuration is not None:
                place = run.configuration.url or run.configuration.path or ""
                return self.at(place, self.licenses.data, f"the configuration of run '{run.name}'")
        if self.release.foreign is None:
            because = "the spec itself is the training configuration"
            return Evidence(there=True, because=because, license=self.licenses.documents or self.licenses.data)
        if self._unseen() is None:
            for seen in self.release.checkpoints:
                if any(OPTIMIZER_FILE.fullmatch(path) for path in seen.files):
                    because = f"optimizer state of {seen.run.name} {seen.name}"
                    return Evidence(there=True, because=because, license=self.licenses.weights)
        return self.unnamed("no configuration is named and no optimizer state was seen")

    def datasets(self) -> Evidence:
        """The training data of every corpus in use: files that are listed, an address, or public sources."""
        if not self.corpora:
            return self.unnamed("the spec names no corpus")
        licenses: dict[str, None] = {}
        for corpus in self.corpora:
            because = self._why_no_data(corpus)
            if because is not None:
                return because
            terms = corpus.license or self.licenses.data or joined(source.license for source in corpus.sources)
            if terms is None:
                return Evidence(there=True, because=f"corpus '{corpus.name}' is public, no licence is stated")
            licenses[terms] = None
        because_there = f"public: {some([corpus.name for corpus in self.corpora])}"
        return Evidence(there=True, because=because_there, license=joined(licenses), path=self._address("dataset"))

    def _why_no_data(self, corpus: Corpus) -> Evidence | None:
        """Why the data of a corpus cannot be had, or why that is not known; None when they can."""
        name = f"corpus '{corpus.name}'"
        if self.release.foreign is None:
            return self._why_no_chunks(corpus)
        place = corpus.repository
        if place is not None and place.dataset is not None:
            if not self.looked:
                return Evidence(there=None, because=f"level '{self.release.level}' does not look at files")
            repo = Repo(id=place.dataset, type="dataset")
            if any(path not in (CARD, ".gitattributes") for path in self._files_at(repo, place.revision or MAIN)):
                return None
            return Evidence(there=False, because=f"no files of {name} are listed in {place.dataset}")
        if place is not None and place.url is not None:
            return Evidence(there=False, because=f"{place.url} is not there") if place.url in self.gone else None
        if corpus.sources and all(source.kind is not None for source in corpus.sources):
            return None
        return Evidence(there=None, because=f"the spec does not say where {name} is")

    def _why_no_chunks(self, corpus: Corpus) -> Evidence | None:
        manifest = self.release.readable_manifest
        if not self.looked or manifest is None:
            return Evidence(there=None, because="the chunks were not looked at")
        chunks = [chunk.file.path for run in manifest.runs if run.corpus == corpus.name for chunk in run.chunks]
        missing = [path for path in chunks if path not in self.release.listing]
        if not chunks or missing:
            because = f"{len(missing)} of {len(chunks)} chunks of corpus '{corpus.name}' are not there"
            return Evidence(there=False, because=because)
        return None

    def results(self) -> Evidence:
        """Results of the evaluations: in the manifest, in the model repository, or at an address."""
        terms = self.licenses.documents
        if not self.spec.evaluations:
            return self.unnamed("the spec names no evaluation")
        if self.release.foreign is None:
            if self.release.readable_manifest is None:
                return Evidence(there=None, because="there is no readable manifest")
            scored = [c for run in self.release.readable_manifest.runs for c in run.checkpoints if c.metrics]
            if not scored:
                return Evidence(there=False, because="no checkpoint has a score")
            return Evidence(there=True, because=f"scores of {len(scored):,} checkpoints", license=terms)
        places = [evaluation.results for evaluation in self.spec.evaluations if evaluation.results is not None]
        if not places:
            return self.unnamed("the spec does not say where the results are")
        for address in places:
            if re.match(r"https?://", address):
                return self.at(address, terms, "the spec names their address")
        if not self.looked:
            return Evidence(there=None, because=f"level '{self.release.level}' does not look at files")
        pattern = re.compile("|".join(_pattern(place) for place in dict.fromkeys(places)))
        count = sum(pattern.fullmatch(path) is not None for path in self._main_files())
        if not count:
            return Evidence(there=False, because="no file is where the spec says that the results are")
        return Evidence(there=True, because=f"{count:,} files of results are listed", license=terms)

    def card(self, kind: str) -> Evidence:
        """The card of every repository of a kind; a release in a folder gets its cards when it is published."""
        terms, what = self.licenses.documents, "model" if kind == "model" else "data"
        if not self.looked:
            return Evidence(there=None, because=f"level '{self.release.level}' does not look at files")
        try:
            repos = [repo for repo in self.release.repositories if repo.type == kind]
        except CannotCheckError:
            named = [run for run in self.spec.all_runs() if (run.hub.model if what == "model" else run.hub.data)]
            if not named:
                return Evidence(there=None, because="the spec names no repository to publish in")
            because = "written from the spec when the release is published"
            return Evidence(there=True, because=because, license=terms)
        if not repos:
            return self.unnamed(f"the spec names no {what} repository")
        bare = [repo.id for repo in repos if not self._card_bytes(repo)]
        if bare:
            return Evidence(there=False, because=f"{some(bare)} has no card")
        return Evidence(there=True, because=f"listed: {CARD} of {some([repo.id for repo in repos])}", license=terms)

    def _card_bytes(self, repo: Repo) -> int:
        files = self._files_at(repo, self._revision_of(repo))
        return files[CARD].bytes if CARD in files else 0

    def _revision_of(self, repo: Repo) -> str:
        if self.release.foreign is not None:
            return dict(self.release.foreign.data_repos).get(repo, MAIN)
        return MAIN

    def _files_at(self, repo: Repo, revision: str) -> dict[str, RemoteFile]:
        if self.release.foreign is not None:
            listed = self.release.foreign.revisions.get((repo, revision))
        elif isinstance(self.release.target, HubTarget):
            listed = self.release.survey.revision(repo, revision)
        else:
            listed = None
        return dict(listed.files) if listed is not None else {}

    def _main_files(self) -> Iterator[str]:
        for run in self.published_runs:
            if run.hub.model is not None:
                yield from self._files_at(Repo(id=run.hub.model, type="model"), MAIN)

    def _address(self, kind: str) -> str | None:
        """Where the first repository of a kind is."""
        for run in self.published_runs:
            if kind == "model" and run.hub.model is not None:
                return f"https://huggingface.co/{run.hub.model}"
            if kind == "dataset" and run.hub.data is not None:
                return f"https://huggingface.co/datasets/{run.hub.data}"
        return None


def _pattern(place: str) -> str:
    """A template of paths as a regular expression."""
    return re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(place))
