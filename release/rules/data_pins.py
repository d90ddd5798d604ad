"""Rules about what the spec says of its data: is it pinned, and can it be prepared again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from open360.release.findings import Finding, Part, Severity
from open360.release.rules.rule import SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.corpus import Corpus, FileSet

_COMMIT_IN_ADDRESS = re.compile(r"/[0-9a-f]{40}/")


class UnpinnedData(Rule):
    """Published training data is named, but not pinned.

    ## What it does
    Looks for data repositories without a commit, for lists of data files without a digest (or an address that holds a
    commit), and for runs whose data repository is another one than that of their corpus: then there are several copies,
    and the spec does not say which one was trained on.

    ## Why is this bad?
    A branch can move. Who downloads the data tomorrow gets something else under the same name, and cannot tell.

    ## Example
    `repository: {dataset: karpathy/climbmix-400b-shuffle}`

    ## Remedy
    Add the `revision`, a commit of 40 digits; `listed_sha256` to a list; name other copies as `aliases`.

    ## Seen in practice
    The data behind nanochat's one address was replaced by another data set within a day. Three copies of Pythia's data
    lie in different orders, and their authors had to say in threads which one counts. A mix of Marin took up a stale
    copy with test questions in it, because data was named by path.
    """

    code = "DAT004"
    name = "unpinned-data"
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})
    part = Part.CORPUS

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each corpus and thing that is not pinned."""
        for index, corpus in enumerate(release.spec.corpora):
            at, repository = f"/corpora/{index}", corpus.repository
            if repository is not None and repository.dataset is not None and repository.revision is None:
                message = f"the data repository '{repository.dataset}' is named without a commit"
                fix = "add 'revision' to 'repository': a commit of 40 digits"
                yield self.finding(release.place(f"{at}/repository"), corpus.name, message, fix)
            for place, files in _lists(at, corpus):
                if files.listed_sha256 is None and not _COMMIT_IN_ADDRESS.search(files.listed or ""):
                    message = (
                        f"the list of its files, {files.listed}, may change: neither a digest nor a commit pins it"
                    )
                    yield self.finding(release.place(place), corpus.name, message, "add 'listed_sha256'")
            if release.foreign is not None:
                yield from self._check_copies(release, corpus)

    def _check_copies(self, release: ReleaseView, corpus: Corpus) -> Iterator[Finding]:
        repository = corpus.repository
        known = {repository.dataset, *repository.aliases} if repository is not None else set()
        others: dict[str, str] = {}
        for run in release.spec.all_runs():
            if run.corpus == corpus.name and run.hub.data is not None and run.hub.data not in known:
                others.setdefault(run.hub.data, run.name)
        for other, run_name in others.items():
            named = (
                f"is another one than '{repository.dataset}'" if repository and repository.dataset else "has no commit"
            )
            message = f"the data repository '{other}' of run '{run_name}' {named}"
            fix = "name the one copy that was trained on as 'repository' of the corpus, others as its 'aliases'"
            place = release.place(f"{release.run_pointer(run_name)}/hub/data")
            yield self.finding(place, corpus.name, message, fix)


def _lists(at: str, corpus: Corpus) -> Iterator[tuple[str, FileSet]]:
    """Published lists of files of a corpus and of its sources, with their places in the spec."""
    if corpus.files is not None and corpus.files.listed is not None:
        yield f"{at}/files/listed", corpus.files
    for index, source in enumerate(corpus.sources):
        if source.files is not None and source.files.listed is not None:
            yield f"{at}/sources/{index}/files/listed", source.files


class UnseededProcessing(Rule):
    """A step of the data preparation cannot be repeated: its random numbers came from nowhere.

    ## What it does
    Reports steps of `processing` that are declared as seeded by the clock, by the number of a process, or not at all.

    ## Why is this bad?
    Nobody, its authors included, can make the data again from its sources; only the published files are evidence.

    ## Example
    `processing: [{name: gather, seeded_by: clock}]`

    ## Remedy
    Seed every step by a number that stands in the spec. Where it is too late, publish what the step made, with its
    digests, and accept the finding as a waiver.

    ## Seen in practice
    K2's preparation decided by the time of day which code was turned to fill-in-the-middle; Amber's split into training
    and validation came from a sampler without a seed.
    """

    code = "DAT006"
    name = "unseeded-processing"
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})
    part = Part.CORPUS

    def claims(self, release: ReleaseView) -> int:
        """Corpora that declare how they were prepared."""
        return sum(bool(corpus.processing) for corpus in release.spec.corpora)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each step."""
        for index, corpus in enumerate(release.spec.corpora):
            for number, step in enumerate(corpus.processing):
                if step.seeded_by != "fixed":
                    how = {"clock": "by the clock", "rank": "by the number of a process"}.get(
                        step.seeded_by, "not at all"
                    )
                    message = f"step '{step.name}' of corpus '{corpus.name}' was seeded {how}"
                    fix = "seed it by a number in the spec, or publish what it made with digests"
                    yield self.finding(
                        release.place(f"/corpora/{index}/processing/{number}"), corpus.name, message, fix
                    )
