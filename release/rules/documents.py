"""Rules about the two documents: can they be read, do they belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from open360.release.findings import Finding, Location
from open360.release.rules.rule import BOTH, MANIFEST_READ, MANIFEST_THERE, SPEC_READ, Rule
from open360.release.view import ReleaseView
from open360.schema.errors import SpecProblem
from open360.schema.layout import MANIFEST_FILE, SPEC_FILE

MAX_SHOWN_PROBLEMS = 200


def _place(problem: SpecProblem) -> Location:
    return Location(path=problem.file, line=problem.line, column=problem.column, pointer=problem.pointer)


class SpecUnreadable(Rule):
    """The spec cannot be read.

    ## What it does
    Reads `release.yaml` as YAML and checks it against the grammar: known keys, right types, values that can exist,
    names that refer to something. Every problem is reported at its line and column.

    ## Why is this bad?
    Nothing else can be judged, built or published. A key with a spelling mistake would otherwise be a setting that
    silently does not count.

    ## Example
    `lisenses: {weights: Apache-2.0}`

    ## Remedy
    Correct the lines; editors that know the JSON Schema named in the first line complete and check the keys.
    """

    code = SPEC_READ
    name = "spec-unreadable"
    requires = frozenset()

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each problem of the document."""
        for problem in release.spec_problems[:MAX_SHOWN_PROBLEMS]:
            fix = "correct this line; the JSON Schema of the spec lists every key"
            yield self.finding(_place(problem), problem.pointer or SPEC_FILE, problem.message, fix)


class ManifestMissing(Rule):
    """There is no manifest.

    ## What it does
    Looks for `manifest.json`.

    ## Why is this bad?
    Without it nothing ties files, chunks and checkpoints to digests: whoever downloads the release cannot tell whether
    they have what was published.

    ## Example
    A folder with `release.yaml` and checkpoints, before the first build.

    ## Remedy
    `dvc repro manifest` writes it.

    ## Seen in practice
    No fully open release before open360 had one: outsiders found replaced weights and missing branches by hand, years
    later.
    """

    code = MANIFEST_THERE
    name = "manifest-missing"
    requires = frozenset()

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding when there is none."""
        if not release.has_manifest:
            message = "the release has no manifest: no file of it is tied to a digest"
            yield self.finding(MANIFEST_FILE, MANIFEST_FILE, message, "run 'dvc repro manifest'")


class ManifestUnreadable(Rule):
    """The manifest cannot be read.

    ## What it does
    Reads `manifest.json` and checks it against its grammar; paths that leave the release, digests of the wrong
    length, sizes beyond all use and ranges that run backwards are refused here.

    ## Why is this bad?
    A manifest that cannot be read proves nothing, and one with a path such as `../../.ssh/id` is an attack.

    ## Example
    `{"path": "../../x", "bytes": 1, "sha256": "…"}`

    ## Remedy
    Never edit a manifest; `dvc repro manifest` writes it again.
    """

    code = MANIFEST_READ
    name = "manifest-unreadable"
    requires = frozenset({MANIFEST_THERE})

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each problem of the document."""
        for problem in release.manifest_problems[:MAX_SHOWN_PROBLEMS]:
            fix = "run 'dvc repro manifest' to write it again, or fetch it again"
            yield self.finding(_place(problem), problem.pointer or MANIFEST_FILE, problem.message, fix)


class ManifestOfAnotherSpec(Rule):
    """The manifest was built from another spec.

    ## What it does
    Compares the manifest's name, version and sha256 of the spec with the spec that is there.

    ## Why is this bad?
    What the author declares and what was built are then two different releases: hyperparameters could be changed after
    the training with no trace.

    ## Example
    `release.yaml` says `batch: 16`, but the manifest was made when it said `batch: 8`.

    ## Remedy
    Build the release again (`dvc repro`), or restore the spec that the manifest was built from.

    ## Seen in practice
    In several published releases precision, batch size or the length of the schedule in the code differ from what ran,
    since the files were edited after the run.
    """

    code = "SPC005"
    name = "manifest-of-another-spec"
    requires = BOTH

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each of the three that differs."""
        found = hashlib.sha256(release.spec_bytes).hexdigest()
        facts = [
            ("name", release.manifest.name, release.spec.name),
            ("version", release.manifest.version, release.spec.version),
            ("spec_sha256", release.manifest.spec_sha256, found),
        ]
        for field, built, declared in facts:
            if built != declared:
                message = f"the manifest was built from another spec: its {field} is {built}, the spec's is {declared}"
                fix = "run 'dvc repro' to build the release again, or restore the spec"
                yield self.finding(Location(path=MANIFEST_FILE, pointer=f"/{field}"), field, message, fix)
