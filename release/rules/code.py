"""Rules about code: pinned, with the lock of its environment, and tables that agree with the spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from open360.release.findings import EvidenceLevel, Finding, Location
from open360.release.rules.rule import BOTH, SPEC_READ, CannotCheckError, Rule
from open360.release.view import ReleaseView
from open360.schema.layout import SEGMENTS_FILE, chunk_name
from open360.schema.schedule import ScheduleError, segments


class LockMissing(Rule):
    """The code has no lock of its environment.

    ## What it does
    Looks for a `lock` (the file that pins every dependency) or a container with a digest in each entry of `code`.

    ## Why is this bad?
    Another version of a library gives other numbers, or no longer runs: without the lock the training cannot be
    repeated.

    ## Example
    `code: [{repository: …, commit: …, entry: make}]`

    ## Remedy
    Pin all dependencies in a file and name it: `lock: constraints.txt`.

    ## Seen in practice
    The requirements of Amber's code said `>=` throughout; two years later they no longer install.
    """

    code = "COD001"
    name = "lock-missing"
    requires = frozenset({SPEC_READ})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each entry without a lock."""
        for index, code in enumerate(release.spec.code):
            pinned = code.container is not None and code.container.digest is not None
            if code.lock is None and code.lock_sha256 is None and not pinned:
                whose = code.purpose or code.repository or release.spec.name
                message = f"the environment of the code ({whose}) is not pinned"
                fix = "add 'lock: <file that pins every dependency>', or a container with its digest"
                yield self.finding(release.place(f"/code/{index}"), whose, message, fix)


class UnpinnedCode(Rule):
    """A repository of code is named without a commit.

    ## What it does
    Looks for a commit or a Software Heritage id beside every repository: of code, of external code, of processing
    steps and of evaluation harnesses. One's own repository may leave it to the published manifest.

    ## Why is this bad?
    A branch moves. Who looks at the code later sees another code than the one that ran.

    ## Example
    `external: [{repository: https://github.com/EleutherAI/lm-evaluation-harness}]`

    ## Remedy
    Add the commit: `commit: <40 hexadecimal digits>`.

    ## Seen in practice
    Scores of several releases name "a fork of" a harness; which commit it was is written as "to do".
    """

    code = "COD002"
    name = "unpinned-code"
    requires = frozenset({SPEC_READ})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository without a commit."""
        for pointer, repository in _unpinned(release):
            message = f"{repository} is named without a commit"
            yield self.finding(release.place(pointer), repository, message, "add its commit, 40 hexadecimal digits")


def _unpinned(release: ReleaseView) -> Iterator[tuple[str, str]]:
    spec, manifest = release.spec, release.readable_manifest
    published = manifest.published if manifest is not None else None
    own_is_pinned = published is not None and (published.code_commit is not None or published.code_swhid is not None)
    for index, code in enumerate(spec.code):
        own = own_is_pinned and code.lock is not None
        if code.repository is not None and code.commit is None and code.swhid is None and not own:
            yield f"/code/{index}/repository", code.repository
        for number, external in enumerate(code.external):
            if external.commit is None:
                yield f"/code/{index}/external/{number}", external.repository
    for index, corpus in enumerate(spec.corpora):
        for number, step in enumerate(corpus.processing):
            if step.repository is not None and step.commit is None:
                yield f"/corpora/{index}/processing/{number}", step.repository
    for index, evaluation in enumerate(spec.evaluations):
        repository = evaluation.harness_repository
        if repository is not None and evaluation.harness_commit is None:
            yield f"/evaluations/{index}/harness_repository", repository


class StaleSegments(Rule):
    """The table of segments does not describe the spec.

    ## What it does
    Compares the segments in `segments.json` (which the pipeline loops over) with those that follow from the spec:
    run, checkpoint, parent, chunk and steps.

    ## Why is this bad?
    The pipeline then trains other segments than the spec declares.

    ## Example
    `every: 22` was changed to `every: 44`, and the table was not written again.

    ## Remedy
    `python -P -m open360.pipelines.plan` writes it.
    """

    code = "COD003"
    name = "stale-segments"
    level = EvidenceLevel.LOADED
    requires = BOTH

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each segment that differs."""
        if SEGMENTS_FILE not in release.present:
            raise CannotCheckError(f"the release has no {SEGMENTS_FILE}: it was not made by this pipeline")
        document = release.document(SEGMENTS_FILE)
        table = document.get("segments") if isinstance(document, dict) else None
        entries = list(table.values()) if isinstance(table, dict) else []
        found = {(str(e.get("run")), str(e.get("checkpoint"))): e for e in entries if isinstance(e, dict)}
        expected = _expected_segments(release)
        for key in sorted(expected.keys() | found.keys()):
            have = {name: found.get(key, {}).get(name) for name in ("prev", "chunk", "steps")}
            if key not in found:
                message = "the table leaves out a segment that the spec declares"
            elif key not in expected:
                message = "the table holds a segment that the spec does not declare"
            elif have != expected[key]:
                message = f"expected {expected[key]}, found {have}"
            else:
                continue
            fix = "run 'python -P -m open360.pipelines.plan' to write the table again"
            yield self.finding(Location(path=SEGMENTS_FILE, pointer="/segments"), key[1], message, fix)


def _expected_segments(release: ReleaseView) -> dict[tuple[str, str], dict[str, Any]]:
    expected: dict[tuple[str, str], dict[str, Any]] = {}
    for run in release.spec.all_runs():
        try:
            parts = segments(run, release.spec.corpus_of(run))
        except ScheduleError as error:
            raise CannotCheckError(f"the spec does not say enough: {error}") from error
        for part in parts:
            entry = {
                "prev": part.parent,
                "chunk": chunk_name(part.index),
                "steps": [part.first_step, part.end_step],
            }
            expected[run.name, part.name] = entry
    return expected
