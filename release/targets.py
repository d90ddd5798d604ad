"""Targets: where a release lives. A folder that exists, else ORG/NAME on the Hub.

A target is read by release-folder paths (see `open360.schema.layout`) whatever it is. Every read is bounded by the
caller, and no path leaves the release.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from open360.schema.errors import Open360Error, SpecError, UnsupportedVersionError
from open360.schema.layout import CODE_FILE, MANIFEST_FILE, REPORT_FILE, SEGMENTS_FILE, SPEC_FILE
from open360.schema.manifest import MAX_MANIFEST_BYTES, FileRecord
from open360.schema.names import NAME_PATTERN, RelPath
from open360.schema.serialization import MAX_SPEC_BYTES, load_manifest

RELEASE_FILES = (SPEC_FILE, MANIFEST_FILE, REPORT_FILE, SEGMENTS_FILE, CODE_FILE)
RELEASE_FOLDERS = ("corpora", "runs", "metrics", "analyses")
MAX_LISTED_FILES = 2_000_000
REPO_ID = re.compile(f"{NAME_PATTERN}/{NAME_PATTERN}")
_RELATIVE_PATH: TypeAdapter[str] = TypeAdapter(RelPath)


class TargetError(Open360Error):
    """A target cannot be opened, or does not hold what was asked for."""


class MissingFileError(TargetError):
    """A target does not hold a file."""

    def __init__(self, target: str, path: str, next_step: str = "see 'open360 validate'") -> None:
        self.target, self.path = target, path
        super().__init__(f"{target}: expected a file '{path}', found none; {next_step}")


class FileBoundsError(TargetError):
    """A file is larger than the reader takes, or shorter than the range that was asked for."""

    def __init__(self, target: str, path: str, expected: str, found: str) -> None:
        self.target, self.path = target, path
        super().__init__(f"{target}/{path}: expected {expected}, found {found}; see 'open360 validate {target}'")


class UnsafePathError(TargetError):
    """A path, or the symlink that lies there, leads out of the release."""

    def __init__(self, target: str, path: str) -> None:
        self.target, self.path = target, path
        super().__init__(
            f"{target}: '{path[:200]}' leads out of the release; replace the link by the file, or correct the path"
        )


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file as a target shows it without downloading. `path` is the release-folder path, whatever the target.

    `sha256` is None where the target does not know it (folders; small files on the Hub), `commit` in folders.
    """

    path: str
    bytes: int
    sha256: str | None
    commit: str | None


class Target(Protocol):
    """Where a release lives. All paths are release-folder paths.

    Every method may raise TargetError, and HubError where the target is on the Hub.
    """

    @property
    def label(self) -> str:
        """How messages name the target."""
        ...

    @property
    def spec_path(self) -> str:
        """How findings name the spec."""
        ...

    def spec_bytes(self) -> bytes:
        """The bytes of `release.yaml`."""
        ...

    def manifest_bytes(self) -> bytes | None:
        """The bytes of `manifest.json`, or None when the release has none."""
        ...

    def listing(self) -> dict[str, ListedFile]:
        """Every file of the release by its path, without reading any."""
        ...

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file of at most `max_bytes`."""
        ...

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)` of a file: exactly that many, or an error."""
        ...

    def local_path(self, path: str) -> Path | None:
        """The file on this disk, or None when the target is elsewhere."""
        ...

    def download(self, record: FileRecord, folder: Path) -> Path:
        """A copy of a whole file, of any size, below `folder`; its bytes are for the caller to verify.

        Called again after an interruption, it goes on with what is there.
        """
        ...


def check_path(target: str, path: str) -> str:
    """`path` when it is a relative POSIX path that stays inside the release. Raises UnsafePathError."""
    try:
        return _RELATIVE_PATH.validate_python(path)
    except ValidationError as error:
        raise UnsafePathError(target, path) from error


class FolderTarget:
    """A release folder on this disk. Symlinks that leave it are refused."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise TargetError(f"{root}: expected a release folder, found none; 'open360 init {root}' makes one")
        self.root = root
        self._real_root = root.resolve(strict=True)

    @property
    def label(self) -> str:
        """The folder as it was given."""
        return str(self.root)

    @property
    def spec_path(self) -> str:
        """`release.yaml`."""
        return SPEC_FILE

    def spec_bytes(self) -> bytes:
        """The bytes of `release.yaml`. Raises MissingFileError."""
        if not (self.root / SPEC_FILE).exists():
            raise MissingFileError(self.label, SPEC_FILE, "'open360 init' writes one")
        return self.read(SPEC_FILE, MAX_SPEC_BYTES)

    def manifest_bytes(self) -> bytes | None:
        """The bytes of `manifest.json`, or None before the first build."""
        return self.read(MANIFEST_FILE, MAX_MANIFEST_BYTES) if (self.root / MANIFEST_FILE).exists() else None

    def listing(self) -> dict[str, ListedFile]:
        """Files of the release: the documents at its root, its folders of data, and whatever its manifest names.

        Links that lead out of the folder are not listed.
        """
        found: dict[str, ListedFile] = {}
        for path in [*RELEASE_FILES, *self._paths_of_manifest(), *self._walk()]:
            real = self._inside(path)
            if path not in found and real is not None and real.is_file():
                found[path] = ListedFile(path=path, bytes=real.stat().st_size, sha256=None, commit=None)
        return dict(sorted(found.items()))

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file. Raises MissingFileError, UnsafePathError, FileBoundsError."""
        with self.local_path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise FileBoundsError(self.label, path, f"at most {max_bytes} bytes", "more")
        return data

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)` of a file. Raises MissingFileError, UnsafePathError, FileBoundsError."""
        with self.local_path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not 0 <= begin <= end <= size:
                raise FileBoundsError(self.label, path, f"bytes {begin} to {end}", f"a file of {size} bytes")
            file.seek(begin)
            return file.read(end - begin)

    def local_path(self, path: str) -> Path:
        """The file on this disk, links followed. Raises MissingFileError, UnsafePathError."""
        real = self._inside(check_path(self.label, path))
        if real is None:
            raise UnsafePathError(self.label, path)
        if not real.is_file():
            raise MissingFileError(self.label, path)
        return real

    def download(self, record: FileRecord, folder: Path) -> Path:
        """A copy below `folder`. Raises MissingFileError, UnsafePathError, FileBoundsError; OSError of this disk."""
        source, copy = self.local_path(record.path), folder / record.path
        size = source.stat().st_size
        if size != record.bytes:
            raise FileBoundsError(self.label, record.path, f"{record.bytes} bytes", f"{size} bytes")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
        return copy

    def _inside(self, path: str) -> Path | None:
        try:
            real = (self._real_root / path).resolve()
        except (OSError, RuntimeError):  # a loop of links
            return None
        return real if real.is_relative_to(self._real_root) else None

    def _paths_of_manifest(self) -> list[str]:
        try:
            data = self.manifest_bytes()
            return [record.path for record in load_manifest(data).all_files()] if data is not None else []
        except (SpecError, TargetError, UnsupportedVersionError):
            return []  # an unreadable manifest is a finding of the validator, not of the listing

    def _walk(self) -> Iterator[str]:
        count = 0
        for name in RELEASE_FOLDERS:
            for folder, children, files in os.walk(self._real_root / name):
                children[:] = sorted(child for child in children if not child.startswith("."))
                for file in sorted(files):
                    if file.startswith("."):
                        continue
                    count += 1
                    if count > MAX_LISTED_FILES:
                        raise FileBoundsError(self.label, name, f"at most {MAX_LISTED_FILES} files", "more")
                    yield Path(folder, file).relative_to(self._real_root).as_posix()


def open_target(text: str, *, tag: str | None = None, endpoint: str | None = None, token: str | None = None) -> Target:
    """The target that a person means by `text`: a folder that exists, else ORG/NAME on the Hub.

    Args:
        tag: tag to start from on the Hub; the newest version when None.
        endpoint: address of the Hub; `HF_ENDPOINT`, else the public Hub, when None.
        token: access token; the one that the client finds when None.
    Raises:
        TargetError: `text` is neither.
        HubError: the Hub does not answer, or has no such repository or tag.
    """
    if text and Path(text).is_dir():
        return FolderTarget(Path(text))
    if REPO_ID.fullmatch(text) is None:
        raise TargetError(
            f"'{text}': expected a folder that exists or ORG/NAME on the Hub, found neither; see 'open360 catalogue'"
        )
    from open360.release.hub_target import open_hub_target

    return open_hub_target(text, tag=tag, endpoint=endpoint, token=token)
