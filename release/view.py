"""What the rules look at: the documents, the listing, the digests and the content of a release, each read once, lazily.

Nothing in a release is believed: every read is bounded, and a file that is missing, too large or not readable is
`None`, with the reason kept for the rule that reports it.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from open360.release.building import weight_files
from open360.release.declarations import Declarations
from open360.release.evidence.addresses import Addresses, is_public
from open360.release.findings import EvidenceLevel, Location, Part, Sample
from open360.release.foreign_target import ForeignTarget
from open360.release.hash_cache import CACHE_PATH, HashCache
from open360.release.hashing import FileDigest, hash_files
from open360.release.hub_objects import RemoteFile, Repo
from open360.release.hub_target import HubTarget
from open360.release.remote_listing import at_once
from open360.release.survey import ListedRevision, Survey
from open360.release.targets import FolderTarget, ListedFile, Target, TargetError, UnsafePathError
from open360.release.tensor_statistics import TensorFile, WeightStatistics, open_tensor_file, weight_statistics
from open360.schema.digests import TensorFileError
from open360.schema.errors import SpecError
from open360.schema.manifest import CheckpointRecord, ChunkRecord, FileRecord
from open360.schema.run import Run
from open360.schema.serialization import parse_json

MAX_DOCUMENT_BYTES = 16 << 20
RANGE_BYTES = 8 << 20
IN_A_FOLDER = "the target is a folder: what is on the Hub is not looked at"
NO_MANIFEST = "there is no manifest that says which checkpoints there are"
MAX_FETCHED_BYTES = 8 << 30  # of a checkpoint that is fetched to be run once

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
    manifest says of it, `listed` what the Hub shows, where there is such a thing.
    """

    run: Run
    name: str
    step: int
    tokens: int | None
    root: str
    files: Mapping[str, RemoteFile]
    record: CheckpointRecord | None = None
    listed: ListedRevision | None = None

    def path(self, inside: str) -> str:
        """A file of it as the target names it."""
        return f"{self.root}/{inside}"


class ReleaseView(Declarations):
    """A release under validation. `level` is how much may be looked at."""

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
        self._tensor_files: dict[str, TensorFile] = {}
        self._weights: dict[str, WeightStatistics | None] = {}

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
        if isinstance(self.target, ForeignTarget):
            return self.target.survey
        if isinstance(self.target, HubTarget):
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

    @cached_property
    def present(self) -> list[str]:
        """Paths that the manifest names and the target shows."""
        found = sorted(set(self.listing) & {record.path for record in self.files})
        self.counts["listed_files"] = len(found)
        return found

    @cached_property
    def digests(self) -> dict[str, FileDigest]:
        """Digests of the bytes of every file that the manifest names and the target has."""
        here = isinstance(self.target, FolderTarget)
        found = dict(self._local_digests(self.present) if here else self._far_digests(self.present))
        self.counts["hashed_files"] = len(found)
        self.counts["hashed_bytes"] = sum(digest.bytes for digest in found.values())
        return found

    def _local_digests(self, wanted: list[str]) -> Iterator[tuple[str, FileDigest]]:
        assert isinstance(self.target, FolderTarget)  # noqa: S101
        by_file: dict[Path, list[str]] = {}  # links inside a release may lead two paths to one file
        for path in wanted:
            try:
                by_file.setdefault(self.target.local_path(path), []).append(path)
            except TargetError as error:
                self.unreadable[path] = str(error)
        root = self.target.root
        cache = HashCache(root / CACHE_PATH, root)

        def keep_reason(file: Path, error: OSError) -> None:
            self.unreadable.update((path, str(error.strerror or error)) for path in by_file[file])

        for file, digest in hash_files(list(by_file), cache=cache, progress=self.progress, on_error=keep_reason):
            for path in by_file[file]:
                yield path, digest

    def _far_digests(self, wanted: list[str]) -> Iterator[tuple[str, FileDigest]]:
        total = sum(self.listing[path].bytes for path in wanted)
        done = 0
        for path in wanted:
            sha256 = hashlib.sha256()
            size = self.listing[path].bytes
            for begin in range(0, size, RANGE_BYTES):
                sha256.update(self.target.read_range(path, begin, min(begin + RANGE_BYTES, size)))
            done += size
            if self.progress is not None:
                self.progress(done, total, path)
            yield path, FileDigest(bytes=size, sha256=sha256.hexdigest())

    def intact(self, path: str) -> bool:
        """Whether a file is there with the bytes of the manifest; another one is reported once, and read no further.

        What no manifest speaks of is as intact as it is listed.
        """
        record = self._records.get(path)
        if record is None:
            return self.foreign is not None and path in self.listing
        digest = self.digests.get(path)
        return digest is not None and digest.sha256 == record.sha256

    @cached_property
    def _records(self) -> dict[str, FileRecord]:
        return {record.path: record for record in self.files} if self.readable_manifest is not None else {}

    def size_of(self, path: str) -> int:
        """Bytes of a file by the manifest, else by the listing."""
        return self._records[path].bytes if path in self._records else self.listing[path].bytes

    def weight_paths(self, checkpoint: SeenCheckpoint) -> list[str]:
        """Paths of the safetensors files that hold the weights of a checkpoint."""
        return [checkpoint.path(path) for path in weight_files(checkpoint.files)]

    @contextlib.contextmanager
    def folder_of(self, checkpoint: SeenCheckpoint) -> Iterator[Path | None]:
        """A folder on this disk with a checkpoint's files; None when one is not intact, or they are too many bytes.

        What is far away is fetched for the time of the block.
        """
        if not all(self.intact(checkpoint.path(path)) for path in checkpoint.files):
            yield None
        elif isinstance(self.target, FolderTarget):
            yield self.target.root / checkpoint.root
        elif sum(file.bytes for file in checkpoint.files.values()) > MAX_FETCHED_BYTES:
            yield None
        else:
            with self.local_files(*(checkpoint.path(path) for path in checkpoint.files)) as files:
                folder = files[0].parent / "checkpoint"
                for inside, file in zip(checkpoint.files, files, strict=True):
                    place = folder / inside
                    place.parent.mkdir(parents=True, exist_ok=True)
                    file.rename(place)
                yield folder

    def tensor_file(self, path: str) -> TensorFile:
        """A safetensors file of the release. Raises TensorFileError when it is malformed."""
        if path not in self._tensor_files:
            size = self.size_of(path)
            file = open_tensor_file(path, size, lambda begin, end: self._part_of_tensors(path, begin, end))
            self._tensor_files[path] = file
            self.counts["tensors"] = self.counts.get("tensors", 0) + len(file.spans)
        return self._tensor_files[path]

    def _part_of_tensors(self, path: str, begin: int, end: int) -> bytes:
        try:
            return self.target.read_range(path, begin, end)
        except TargetError as error:  # it was whole a moment ago
            raise TensorFileError(path, str(error)) from error

    def weights(self, checkpoint: SeenCheckpoint) -> WeightStatistics | None:
        """Statistics of a checkpoint's weights, read once; None when its files are not intact."""
        paths = self.weight_paths(checkpoint)
        if checkpoint.root not in self._weights:
            whole = bool(paths) and all(self.intact(path) for path in paths)
            self._weights[checkpoint.root] = weight_statistics([self.tensor_file(p) for p in paths]) if whole else None
            self.counts["checkpoints"] = sum(found is not None for found in self._weights.values())
            if self.progress is not None:
                self.progress(len(self._weights), len(self.loaded_checkpoints), checkpoint.name)
        return self._weights[checkpoint.root]

    def count_hashed(self, size: int) -> None:
        """Note that a file of `size` bytes was hashed."""
        self.counts["hashed_files"] = self.counts.get("hashed_files", 0) + 1
        self.counts["hashed_bytes"] = self.counts.get("hashed_bytes", 0) + size

    def count_chunk(self, chunk: ChunkRecord) -> None:
        """Note that a chunk was read."""
        self.counts["chunks"] = self.counts.get("chunks", 0) + 1
        self.counts["rows"] = self.counts.get("rows", 0) + chunk.rows
        if self.progress is not None:
            self.progress(self.counts["chunks"], sum(len(run.chunks) for run in self.manifest.runs), chunk.name)

    @contextlib.contextmanager
    def local_files(self, *paths: str) -> Iterator[list[Path]]:
        """The files on this disk; those of a far target are fetched for the time of the block."""
        with tempfile.TemporaryDirectory(prefix="open360-") as folder:
            found = []
            for number, path in enumerate(paths):
                here = self.target.local_path(path)
                if here is None:
                    here = Path(folder, f"{number}-{path.rsplit('/', 1)[-1]}")
                    with here.open("wb") as file:
                        size = self.size_of(path)
                        for begin in range(0, size, RANGE_BYTES):
                            end = min(begin + RANGE_BYTES, size)
                            file.write(self.target.read_range(path, begin, end))
                found.append(here)
            yield found

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
