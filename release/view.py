"""What the rules look at, each read once, lazily: on top of the listing, the digests and the content of the files."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from open360.release.building import weight_files
from open360.release.hash_cache import CACHE_PATH, HashCache
from open360.release.hashing import FileDigest, hash_files
from open360.release.listed_view import (
    ListedView,
    SeenCheckpoint,
)
from open360.release.targets import FolderTarget, TargetError
from open360.release.tensor_statistics import TensorFile, WeightStatistics, open_tensor_file, weight_statistics
from open360.schema.digests import TensorFileError
from open360.schema.manifest import ChunkRecord, FileRecord

RANGE_BYTES = 8 << 20
MAX_FETCHED_BYTES = 8 << 30  # of a checkpoint that is fetched to be run once


class ReleaseView(ListedView):
    """A release under validation. `level` is how much may be looked at."""

    @cached_property
    def _tensor_files(self) -> dict[str, TensorFile]:
        """Those that were opened, by their paths."""
        return {}

    @cached_property
    def _weights(self) -> dict[str, WeightStatistics | None]:
        """Those that were read, by the checkpoint's root."""
        return {}

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
