"""Rules about the two documents: can they be read, do they belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from open360.release.building import build_manifest
from open360.release.findings import EvidenceLevel, Finding, Location
from open360.release.rules.rule import (
    BOTH,
    MANIFEST_READ,
    MANIFEST_THERE,
    SPEC_READ,
    CannotCheckError,
    DoesNotApplyError,
    Rule,
)
from open360.release.targets import FolderTarget
from open360.release.view import ReleaseView
from open360.schema.errors import Open360Error, SpecProblem
from open360.schema.layout import CODE_FILE, MANIFEST_FILE

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

    ## Seen in practice
    The examples in the READMEs of LLM360's data code do not run: flags and file names differ from the code. What no
    program reads goes wrong unseen.
    """

    code = SPEC_READ

    def claims(self, release: ReleaseView) -> int:
        """One; none of a guess, which open360 has written itself."""
        return 0 if release.foreign is not None and release.foreign.document.is_guess else 1

    name = "spec-unreadable"
    requires = frozenset()

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each problem of the document."""
        for problem in release.spec_problems[:MAX_SHOWN_PROBLEMS]:
            fix = "correct this line; the JSON Schema of the spec lists every key"
            yield self.finding(_place(problem), problem.pointer or release.spec_path, problem.message, fix)


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
        """One finding when there is none. A foreign release has none, which nobody can be blamed for."""
        if release.foreign is not None:
            raise DoesNotApplyError("open360 did not publish this release: it has no manifest")
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

    ## Seen in practice
    The reference files of DCLM were published with addresses such as `s3://***REMOVED***` and empty commits: a record
    in the form of a manifest that nobody can use.
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


class ManifestNotReproducible(Rule):
    """Building the manifest again gives other facts.

    ## What it does
    Builds the manifest from the release folder again, out of the digests that were computed anyway, and compares every
    fact: counts, tokens, learning rates, metrics, digests of the code and of the environment. Fields that this version
    does not know are left alone. Only for built manifests that lie in a folder.

    ## Why is this bad?
    A number was edited by hand, or comes from an earlier build: a loss in the manifest that no evaluation gave, say.

    ## Example
    `"metrics": {"loss": 2.9}` where the evaluation of this checkpoint says 3.1.

    ## Remedy
    `dvc repro manifest` writes it again; never edit it.

    ## Seen in practice
    Lists of checkpoints of a released model held duplicates, a wrong link, and token counts that were off by one
    interval: they were kept by hand.
    """

    code = "SPC006"
    name = "manifest-not-reproducible"
    level = EvidenceLevel.HASHED
    requires = BOTH | {
        "SPC005",
        "INT001",
        "INT003",
        "INT004",
        "INT006",
        "CKP001",
        "CKP002",
        "CKP005",
        "CKP010",
        "DAT001",
    }

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each fact that differs."""
        target = release.target
        if not isinstance(target, FolderTarget) or release.manifest.form != "built":
            raise CannotCheckError("only a built manifest in a folder can be built again")
        digests = release.digests
        code = release.document(CODE_FILE) if CODE_FILE in digests else None
        code = code if isinstance(code, dict) and all(isinstance(value, str) for value in code.values()) else {}
        try:
            again = build_manifest(release.spec, target.root, spec_bytes=release.spec_bytes, code=code, digests=digests)
        except (Open360Error, ValidationError) as error:
            raise CannotCheckError(f"the manifest cannot be built again: {error}".splitlines()[0]) from error
        found, expected = release.manifest.model_dump(mode="json"), again.model_dump(mode="json")
        for pointer, message in differences(expected, found):
            place = Location(path=MANIFEST_FILE, pointer=pointer)
            yield self.finding(place, pointer, message, "run 'dvc repro manifest' to write it again")


def differences(expected: Any, found: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    """`(pointer, message)` of each value of `expected` that `found` does not have; `found` may have more keys."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            yield from differences(value, found.get(key), f"{pointer}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for index, (value, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(value, other, f"{pointer}/{index}")
    elif expected != found:
        shown = [f"{len(v)} entries" if isinstance(v, list) else f"{v!r}"[:200] for v in (expected, found)]
        yield pointer, f"building it again gives {shown[0]}, the manifest says {shown[1]}"
