"""Rules about files: all there, no more, as large and with the bytes that the manifest says."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from open360.release.findings import EvidenceLevel, Finding, Location, Part
from open360.release.rules.rule import BOTH, CannotCheckError, Rule
from open360.release.view import ReleaseView
from open360.schema.layout import checkpoint_folder, chunk_path, step_table_path, trace_path
from open360.schema.manifest import CheckpointRecord, FileRecord

MISSING_FILE, UNSAFE_PATH = "INT001", "INT005"
MANAGED_FOLDERS = ("chunks", "steps", "checkpoints", "traces", "evaluations")
# Files that a repository has for its own sake: they belong to no release.
HOUSEKEEPING = frozenset({".gitignore", ".gitattributes", "README.md"})


class UnsafePath(Rule):
    """A path of the manifest is dangerous to write, or leads out of the release.

    ## What it does
    Looks in the manifest for paths with hidden parts (`.git/hooks/…`, `.dvc/config`), for paths that differ in case
    only, and at level `listed` for links that leave the folder. (Absolute paths and `..` are no paths at all: such a
    manifest is unreadable.)

    ## Why is this bad?
    Whoever pulls the release writes these files: a git hook among them runs with the next commit. On some systems two
    names that differ in case are one file.

    ## Example
    `{"path": ".git/hooks/post-checkout", …}`

    ## Remedy
    Give the file another name; replace a link by the file.

    ## Seen in practice
    The repository of K2-65B contains a hidden cache folder of its upload: such paths get into releases by accident.
    """

    code = UNSAFE_PATH
    name = "unsafe-path"
    part = Part.FILE

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each path."""
        seen: dict[str, str] = {}
        for record in release.files:
            problem = self._problem_of(release, record.path)
            other = seen.setdefault(_folded(record.path), record.path)
            if problem is None and other != record.path:
                problem = f"it differs from '{other}' in case or accents only"
            if problem is not None:
                yield self.finding(record.path, record.path, problem, "give the file another name, or replace the link")

    def _problem_of(self, release: ReleaseView, path: str) -> str | None:
        if any(part.startswith(".") or part.endswith((".", " ")) for part in path.split("/")):
            return "a part of this path is hidden, or ends with a dot or a blank"
        if release.level.includes(EvidenceLevel.LISTED) and release.leads_out(path):
            return "it is a link that leads out of the release"
        return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", path).casefold()


class MisplacedFile(Rule):
    """A chunk, checkpoint or trace does not lie where the layout puts it.

    ## What it does
    Compares the paths in the manifest with the layout of release folders (`runs/<run>/checkpoints/<name>/…`).

    ## Why is this bad?
    Programs find files by the layout; a manifest that says otherwise makes them read one thing and check another.

    ## Example
    A checkpoint `ckpt_003` with the folder `runs/amber/checkpoints/ckpt_002`.

    ## Remedy
    Build the manifest again.

    ## Seen in practice
    The data of OLMo-hybrid could not be found, since its published paths lacked one folder of the real ones.
    """

    code = "INT006"
    name = "misplaced-file"
    part = Part.FILE

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each path."""
        for run in release.manifest.runs:
            for chunk in run.chunks:
                for field, found, expected in [
                    ("file", chunk.file.path, chunk_path(run.name, chunk.name)),
                    ("step_table", chunk.step_table.path, step_table_path(run.name, chunk.name)),
                ]:
                    if found != expected:
                        yield self._misplaced(release.place_of(run, chunk, field), chunk.name, found, expected)
            for checkpoint in run.checkpoints:
                trace = checkpoint.trace.path if checkpoint.trace is not None else None
                for field, found, expected in [
                    ("folder", checkpoint.folder, checkpoint_folder(run.name, checkpoint.name)),
                    ("trace", trace or "", trace_path(run.name, checkpoint.name) if trace is not None else ""),
                ]:
                    if found != expected:
                        yield self._misplaced(
                            release.place_of(run, checkpoint, field), checkpoint.name, found, expected
                        )

    def _misplaced(self, place: Location, subject: str, found: str, expected: str) -> Finding:
        return self.finding(place, subject, f"expected it at '{expected}', found '{found}'", "run 'dvc repro manifest'")


class MissingFile(Rule):
    """A file that the manifest names is not there.

    ## What it does
    Compares the paths of the manifest with the listing of the target: no byte is downloaded.

    ## Why is this bad?
    The release is not complete: whoever needs the file finds a dead link.

    ## Example
    A checkpoint's branch without its optimizer state, though the manifest lists it.

    ## Remedy
    Build it again (`dvc repro`), fetch it (`dvc pull`), or publish again: publishing resumes where it stopped.

    ## Seen in practice
    Many branches of the Pythia suite and of OLMo-1B held no weights for months: uploads had hit rate limits and nobody
    compared the result with what was meant.
    """

    code = MISSING_FILE
    name = "missing-file"
    part = Part.FILE
    level = EvidenceLevel.LISTED
    requires = BOTH | {UNSAFE_PATH}

    def claims(self, release: ReleaseView) -> int:
        """Files; a checkpoint that is missing whole counts as one, since one finding tells of it."""
        missing = _missing_checkpoints(release).values()
        return len(release.files) - len(set().union(*(paths for _, paths in missing))) + len(missing)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each checkpoint that is missing whole, and one for each other missing file."""
        present = set(release.present)
        fix = "run 'dvc repro' or 'dvc pull' to bring it back, or publish again"
        told: set[str] = set()
        for folder, (name, paths) in _missing_checkpoints(release).items():
            told |= paths
            message = f"the whole checkpoint is missing: expected {len(paths)} files, found none"
            yield self.finding(folder, name, message, fix)
        for record in release.files:
            if record.path not in present and record.path not in told:
                message = f"expected a file of {record.bytes} bytes, found none"
                yield self.finding(record.path, record.path, message, fix)


def _missing_checkpoints(release: ReleaseView) -> dict[str, tuple[str, set[str]]]:
    """Checkpoints of which nothing is there: folder, name and paths."""
    present, found = set(release.present), {}
    for run in release.manifest.runs:
        for checkpoint in run.checkpoints:
            paths = {f"{checkpoint.folder}/{record.path}" for record in checkpoint.files}
            if len(paths) > 1 and not paths & present:
                found[checkpoint.folder] = (checkpoint.name, paths)
    return found


class ExtraFile(Rule):
    """A file lies in a folder of the release, and the manifest does not know it.

    ## What it does
    Looks in the folders that the manifest manages (chunks, step tables, checkpoints, traces, evaluations) for files
    that it does not name.

    ## Why is this bad?
    Such a file is covered by no digest, and loaders read it all the same: a second weights file in a checkpoint's
    folder may be the one that is loaded.

    ## Example
    `runs/amber-nano/checkpoints/ckpt_003/pytorch_model.bin` beside `model.safetensors`.

    ## Remedy
    Remove the file, or let the stage that makes it declare it and build the manifest again.

    ## Seen in practice
    A repository of K2 contained the cache folder of a client, uploaded by mistake.
    """

    code = "INT002"
    name = "extra-file"
    part = Part.FILE
    level = EvidenceLevel.LISTED
    requires = BOTH | {UNSAFE_PATH}

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file that nobody knows."""
        known = {record.path for record in release.files}
        for path in release.listing:
            parts = path.split("/")
            managed = parts[0] == "runs" and len(parts) > 3 and parts[2] in MANAGED_FOLDERS
            if managed and path not in known and parts[-1] not in HOUSEKEEPING:
                message = "this file is in no manifest, so nothing vouches for it"
                yield self.finding(path, path, message, "remove it, or build the manifest again with it")


class WrongSize(Rule):
    """A file has another size than the manifest says.

    ## What it does
    Compares sizes, from the listing alone.

    ## Why is this bad?
    The file is cut short, was replaced, or the manifest claims what is not there.

    ## Example
    An index file of 3.5 GB where the manifest says 5.7 GB.

    ## Remedy
    Fetch or build the file again; when it changed on purpose, build the manifest again.

    ## Seen in practice
    OLMo's order file was uploaded again after a mistaken deletion with another size, and no longer gave the order that
    was trained.
    """

    code = "INT003"
    name = "wrong-size"
    part = Part.FILE
    level = EvidenceLevel.LISTED
    requires = BOTH | {UNSAFE_PATH}

    def unseen(self, release: ReleaseView) -> int:
        """Files that are not there."""
        return sum(record.path not in release.listing for record in release.files)

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file of another size."""
        for record in release.files:
            listed = release.listing.get(record.path)
            if listed is not None and listed.bytes != record.bytes:
                message = f"expected {record.bytes} bytes, found {listed.bytes}"
                yield self.finding(record.path, record.path, message, "fetch or build the file again")


class AlteredFile(Rule):
    """A file has other bytes than the manifest says.

    ## What it does
    Compares the sha256 of every file of the right size: of its bytes at level `hashed` and above; at level `listed`
    of what the target itself lists (the Hub lists the sha256 of large files).

    ## Why is this bad?
    The file is not what was published. It may be damaged, rebuilt with other settings, or replaced on purpose.

    ## Example
    One flipped byte in a chunk.

    ## Remedy
    Fetch or build the file again; when it changed on purpose, build the manifest again and publish a new version.

    ## Seen in practice
    The branches of Amber were rewritten half a year after their publication, and its main branch was uploaded again in
    another precision: without digests a reader cannot tell which of them a paper used.
    """

    code = "INT004"
    name = "altered-file"
    part = Part.FILE
    level = EvidenceLevel.LISTED
    requires = BOTH | {UNSAFE_PATH}

    def unseen(self, release: ReleaseView) -> int:
        """Files that are not there, have another size, or for which the target lists no digest."""
        found = self._digests(release, release.files)
        return sum(
            record.path not in release.listing
            or (
                record.path not in release.unreadable
                and (record.path not in found or release.listing[record.path].bytes != record.bytes)
            )
            for record in release.files
        )

    def check(self, release: ReleaseView) -> Iterator[Finding]:
        """One finding for each file of another digest."""
        records = release.files
        found = self._digests(release, records)
        told: set[str] = set()
        for checkpoint, other in self._exchanged(release, found):
            told |= {f"{checkpoint.folder}/{record.path}" for record in checkpoint.files}
            message = f"it holds the files of checkpoint '{other.name}'"
            yield self.finding(checkpoint.folder, checkpoint.name, message, "put each checkpoint back into its folder")
        for record in records:
            if record.path in told:
                continue
            sha256 = found.get(record.path)
            listed = release.listing.get(record.path)
            if listed is not None and listed.bytes != record.bytes:
                continue  # another size says it already
            if sha256 is not None and sha256 != record.sha256:
                message = f"expected sha256 {record.sha256}, found {sha256}"
                yield self.finding(record.path, record.path, message, "fetch or build the file again")
            elif sha256 is None and listed is not None and record.path in release.unreadable:
                message = f"cannot be read: {release.unreadable[record.path]}"
                yield self.finding(record.path, record.path, message, "make it readable, or fetch it again")

    def _exchanged(
        self, release: ReleaseView, found: dict[str, str]
    ) -> Iterator[tuple[CheckpointRecord, CheckpointRecord]]:
        """Checkpoints whose files are all those of another one."""
        for run in release.manifest.runs:
            by_files = {tuple(sorted((f.path, f.sha256) for f in c.files)): c for c in run.checkpoints}
            for checkpoint in run.checkpoints:
                there = tuple(
                    sorted((f.path, found.get(f"{checkpoint.folder}/{f.path}", "")) for f in checkpoint.files)
                )
                other = by_files.get(there)
                if other is not None and other.files != checkpoint.files:
                    yield checkpoint, other

    def _digests(self, release: ReleaseView, records: list[FileRecord]) -> dict[str, str]:
        if release.level.includes(EvidenceLevel.HASHED):
            return {path: digest.sha256 for path, digest in release.digests.items()}
        listed = {path: file.sha256 for path, file in release.listing.items() if file.sha256 is not None}
        if records and not listed:
            raise CannotCheckError("the target lists no digests; look at level 'hashed'")
        return listed
