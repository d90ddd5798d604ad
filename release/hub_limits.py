"""What the Hub takes and what it drops: its limits, and the refusals that follow from them before anything is sent."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from open360.release.hub_objects import Repo
from open360.release.placement import MAIN, Placement
from open360.schema.errors import Open360Error

# Limits of the Hub, as documented in 2026-08.
MAX_FOLDER_ENTRIES = 10_000
MAX_FILE_BYTES = 500 * 10**9
MAX_COMMIT_FILES = 25_000
COMMITS_PER_HOUR = 128
CALLS_PER_HOUR = 1_000 * 12
FILES_PER_PREUPLOAD = 256
FILES_PER_TREE_PAGE = 1_000
# Our own, for branches that grow in several commits: commit early, so that a restart finds much done.
FILES_PER_COMMIT = 100
BYTES_PER_COMMIT = 50 * 10**9

DROPPED_NAMES = frozenset({".git", ".cache", ".gitattributes", ".gitignore", ".DS_Store"})


class PublishRefusedError(Open360Error):
    """The release may not be published as it is; `problems` lists every reason."""

    def __init__(self, problems: Sequence[str], next_step: str) -> None:
        self.problems = tuple(problems)
        shown = [*self.problems[:20], *([f"… and {len(self.problems) - 20} more"] if len(self.problems) > 20 else [])]
        super().__init__("publishing is refused: " + "\n  ".join([*shown, next_step]))


def batches(files: Sequence[Placement]) -> Iterable[tuple[Placement, ...]]:
    """Files in their order, in groups small enough for one commit."""
    batch: list[Placement] = []
    size = 0
    for file in files:
        if batch and (len(batch) == FILES_PER_COMMIT or size + file.bytes > BYTES_PER_COMMIT):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(file)
        size += file.bytes
    if batch:
        yield tuple(batch)


def refuse_what_the_hub_drops(placements: Sequence[Placement]) -> None:
    """Raise PublishRefusedError for files that the Hub would drop, reinterpret or refuse."""
    problems: list[str] = []
    entries: dict[tuple[Repo, str, str], set[str]] = defaultdict(set)
    places = Counter((file.repo, file.revision, file.path) for file in placements)
    problems += [
        f"{repo} at '{revision}': two files want to be '{path}'; give runs repositories of their own, or rename one"
        for (repo, revision, path), count in places.items()
        if count > 1
    ]
    for file in placements:
        if DROPPED_NAMES & set(PurePosixPath(file.path).parts):
            problems.append(f"{file.source}: the Hub drops or reinterprets files of this name; rename or remove it")
        if file.bytes > MAX_FILE_BYTES:
            problems.append(f"{file.source}: expected at most {MAX_FILE_BYTES} bytes, found {file.bytes}; split it")
        parts = file.path.split("/")
        for depth in range(len(parts)):
            entries[file.repo, file.revision, "/".join(parts[:depth])].add(parts[depth])
    problems += [
        f"{repo} at '{revision}', folder '{folder or '/'}': expected at most {MAX_FOLDER_ENTRIES} entries, "
        f"found {len(names)}; spread them over folders"
        for (repo, revision, folder), names in entries.items()
        if len(names) > MAX_FOLDER_ENTRIES
    ]
    sizes = Counter((file.repo, file.revision) for file in placements if file.revision != MAIN)
    problems += [
        f"{repo} at '{revision}': expected at most {MAX_COMMIT_FILES} files in one commit, found {count}"
        for (repo, revision), count in sizes.items()
        if count > MAX_COMMIT_FILES
    ]
    if problems:
        raise PublishRefusedError(sorted(problems), "correct these, then publish again")
