"""Rules about code: pinned, with the lock of its environment, and tables that agree with the spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from open360.release.evidence.lock_files import MAX_LOCK_BYTES, open_lines
from open360.release.evidence.once import once
from open360.release.findings import EvidenceLevel, Finding, Location, Part, Severity
from open360.release.rules.rule import BOTH, SPEC_READ, CannotCheckError, Rule
from open360.release.survey import revision_root
from open360.release.view import ReleaseView
from open360.schema.layout import MANIFEST_FILE, SEGMENTS_FILE, chunk_name
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
    part = Part.STATEMENT
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Entries of code."""
        return len(release.spec.code)

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
    Looks for a commit or a Software Heritage id beside every repository: of code, of external code and of processing
    steps (MET005 looks at harnesses). One's own repository may leave it to the published manifest.

    ## Why is this bad?
    A branch moves. Who looks at the code later sees another code than the one that ran.

    ## Example
    `external: [{repository: https://github.com/Cerebras/modelzoo}]`

    ## Remedy
    Add the commit: `commit: <40 hexadecimal digits>`.

    ## Seen in practice
    CrystalCoder's code tells the reader to clone Cerebras' modelzoo, without a commit; the commit of Pythia's trainer
    is known only from an answer to a user.
    """

    code = "COD002"
    name = "unpinned-code"
    part = Part.STATEMENT
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Repositories of code."""
        return len(list(_repositories(release)))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each repository without a commit."""
        for pointer, repository in _unpinned(release):
            message = f"{repository} is named without a commit"
            yield self.finding(release.place(pointer), repository, message, "add its commit, 40 hexadecimal digits")


def _unpinned(release: ReleaseView) -> Iterator[tuple[str, str]]:
    return ((pointer, repository) for pointer, repository, pinned in _repositories(release) if not pinned)


def _repositories(release: ReleaseView) -> Iterator[tuple[str, str, bool]]:
    """`(pointer, repository, whether it is pinned)` of all code but that of harnesses."""
    spec, manifest = release.spec, release.readable_manifest
    published = manifest.published if manifest is not None else None
    own_is_pinned = published is not None and (published.code_commit is not None or published.code_swhid is not None)
    for index, code in enumerate(spec.code):
        own = own_is_pinned and code.lock is not None
        if code.repository is not None:
            pinned = code.commit is not None or code.swhid is not None or own
            yield f"/code/{index}/repository", code.repository, pinned
        for number, external in enumerate(code.external):
            yield f"/code/{index}/external/{number}", external.repository, external.commit is not None
    for index, corpus in enumerate(spec.corpora):
        for number, step in enumerate(corpus.processing):
            if step.repository is not None:
                yield f"/corpora/{index}/processing/{number}", step.repository, step.commit is not None


class UncommittedCode(Rule):
    """The code that ran was not committed.

    ## What it does
    Looks for `dirty: true` in the entries of `code`, and in the published manifest.

    ## Why is this bad?
    The commit that the release names is then not the code that made it, and what was changed is nowhere.

    ## Example
    `code: [{repository: …, commit: …, dirty: true}]`

    ## Remedy
    Commit the changes, build again and publish from the clean checkout. Where the changes are lost, the statement
    stays, as a waiver.

    ## Seen in practice
    The batch of an OLMo run was overridden on the command line, and the committed configuration says another; the
    configuration of Amber was changed in its repository after the paper.
    """

    code = "COD005"
    name = "uncommitted-code"
    part = Part.STATEMENT
    severity = Severity.WARNING
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Entries of code."""
        return len(release.spec.code)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each entry, and one for the published release."""
        fix = "commit the changes, build again and publish from the clean checkout"
        for index, code in enumerate(release.spec.code):
            if code.dirty:
                whose = code.purpose or code.repository or release.spec.name
                message = f"the code ({whose}) ran with changes that no commit holds"
                yield self.finding(release.place(f"/code/{index}/dirty"), whose, message, fix)
        manifest = release.readable_manifest
        if manifest is not None and manifest.published is not None and manifest.published.dirty:
            place = Location(path=MANIFEST_FILE, pointer="/published/dirty")
            message = "it was published from a checkout with changes that no commit holds"
            yield self.finding(place, release.spec.name, message, fix)


class LockUnpinned(Rule):
    """The file that should pin the environment leaves versions open.

    ## What it does
    Reads the `lock` of each entry of `code` and looks for requirements without `==`, a commit or a digest. It knows
    requirement files of pip and environments of conda; lock files of resolvers are pinned by their form. A release of
    others is looked at when the file lies in its model repository.

    ## Why is this bad?
    `torch>=2.1` is another program every few months, and one day none that runs.

    ## Example
    `lock: requirements.txt`, with a line `transformers>=4.36.2`.

    ## Remedy
    Write down what was installed: `pip freeze > requirements.txt`, or the file of a resolver.

    ## Seen in practice
    The requirements of Amber's code were `torch>=2.1.1 lightning>=2.1.2 flash_attn>=2.3.3 fire wandb`.
    """

    code = "COD004"
    name = "lock-unpinned"
    part = Part.FILE
    level = EvidenceLevel.LISTED
    requires = frozenset({SPEC_READ})

    def claims(self, release: ReleaseView) -> int:
        """Locks that the spec names, or more where several repositories hold one."""
        return max(len(_declared_locks(release)), len(_locks(release)))

    def unseen(self, release: ReleaseView) -> int:
        """Those of them that are not there, or in no known format."""
        return self.claims(release) - len(_locks(release))

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each lock."""
        locks = _locks(release)
        if not locks and any(code.lock is not None for code in release.spec.code):
            raise CannotCheckError("the lock of the environment is not among the files of the release")
        for path, lines in locks.items():
            if lines:
                shown = ", ".join(f"line {number} '{text[:80]}'" for number, text in lines[:3])
                more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
                place = Location(path=path, line=lines[0][0])
                message = f"it does not pin {shown}{more}"
                yield self.finding(place, path, message, "write down what was installed: 'pip freeze', or a resolver")


def _declared_locks(release: ReleaseView) -> list[str]:
    return list(dict.fromkeys(code.lock for code in release.spec.code if code.lock is not None))


@once
def _locks(release: ReleaseView) -> dict[str, list[tuple[int, str]]]:
    """Open lines of every lock that is there and in a known format."""
    roots = [""]
    if release.foreign is not None:
        roots = [f"{revision_root(repo, 'main')}/" for repo in release.foreign.model_repos]
    found = {}
    for root in roots:
        for lock in _declared_locks(release):
            data = release.read(root + lock, MAX_LOCK_BYTES) if root + lock in release.listing else None
            lines = open_lines(data, lock) if data is not None else None
            if lines is not None:
                found[root + lock] = lines
    return found


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

    ## Seen in practice
    The script of OLMo 3's long-context stage loads the end of stage 1, while its README says that stage 3 follows the
    merged stage 2: what ran and what was declared were kept in two places.
    """

    code = "COD003"
    name = "stale-segments"
    part = Part.CHECKPOINT
    level = EvidenceLevel.LOADED
    requires = BOTH

    def claims(self, release: ReleaseView) -> int:
        """Segments that the spec declares."""
        return len(_expected_segments(release))

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
