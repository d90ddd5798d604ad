"""Makes line indexes: one pass over a file of JSON lines, wherever it lies, that goes on after an interruption.

What was found lies in a hidden folder beside the index until it is whole. A pass that was interrupted goes on where it
was at the last mark (every `MARK_BYTES`; in a zstd file at the beginning of a frame). Its digest is that of one pass: a
file on this disk is hashed again up to there, of others the stated digest is kept, and the index says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open360.release.formats.fetching import fetched
from open360.release.formats.line_index import MAX_ROWS, LineIndex
from open360.release.formats.line_scan import LineScan
from open360.release.formats.ranges import DataFileError, FileIdentity, FolderRanges, Ranges
from open360.release.formats.zstd_stream import Frame, Unpacked
from open360.release.order.spans import Span
from open360.release.staging import OutputError
from open360.schema.atomic import replacing_file, write_bytes
from open360.schema.errors import SpecError
from open360.schema.serialization import canonical_json, parse_json

MARK_BYTES = 256 << 20
PIECE_BYTES = 4 << 20
_COUNTS = ("packed", "at", "last", "rows", "line", "frames")

Progress = Callable[[int, int, str], None]


def is_packed(path: str) -> bool:
    """Whether a file of JSON lines is packed with zstd, by its name."""
    return path.endswith((".zst", ".zstd"))


def index_lines(ranges: Ranges, path: str, out: Path, progress: Progress | None = None) -> LineIndex:
    """Make the line index of a file and write it to `out`, whole or not at all.

    Raises:
        DataFileError: the file is not what its host states, a line is too long, or a zstd frame is broken.
        OutputError: another process is making the same index.
    """
    identity = ranges.identity(path)
    with _work_folder(out) as folder:
        job = _Job(ranges, path, identity, folder)
        job.run(progress)
        index = job.result()
        with replacing_file(out) as partial:
            partial.write_bytes(index.to_bytes())
    return index


def verify_line_index(ranges: Ranges, path: str, index: LineIndex, progress: Progress | None = None) -> None:
    """Read the whole file and compare. Raises DataFileError when the index is not of it."""
    identity = ranges.identity(path)
    index.check_file(path, identity)
    job = _Job(ranges, path, identity, None)
    job.run(progress)
    found = job.result()
    same = (found.rows, found.begin, found.unpacked, found.frames) == (
        index.rows, index.begin, index.unpacked, index.frames
    )  # fmt: skip
    if not same or not np.array_equal(found.lengths, index.lengths):
        raise DataFileError(f"{path}, line index", f"{found.rows} rows as in the file", "others", "make it again")
    index.check_file(path, found.identity)


@contextlib.contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    folder = out.parent / f".{out.name}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{out}: another process is making it; wait, or choose another -o") from None
        yield folder
        shutil.rmtree(folder)
    finally:
        os.close(handle)


class _Job:
    """A pass over a file. With a folder, what is found is kept there and gone on with."""

    def __init__(self, ranges: Ranges, path: str, identity: FileIdentity, folder: Path | None) -> None:
        self.ranges, self.path, self.identity, self.folder = ranges, path, identity, folder
        self.scan = LineScan(path)
        self.packed = 0
        self.frames: list[Frame] = []
        self.digest: Any = hashlib.sha256()
        self._lengths: list[NDArray[np.uint32]] = []
        self._marked = 0
        if folder is not None:
            self._resume(folder)

    def run(self, progress: Progress | None) -> None:
        """Look at the rest of the file."""
        name, size = self.path.rsplit("/", 1)[-1], self.identity.bytes

        def pieces() -> Iterator[memoryview]:
            spans = (Span(self.path, at, min(at + PIECE_BYTES, size)) for at in range(self.packed, size, PIECE_BYTES))
            came = self.packed
            for piece in fetched(self.ranges, spans):
                if self.digest is not None:
                    self.digest.update(piece)
                came += len(piece)
                if progress is not None:
                    progress(came, size, name)
                yield piece

        if is_packed(self.path):
            self._run_packed(Unpacked(self.path, pieces(), Frame(self.packed, self.scan.at)))
        else:
            for piece in pieces():
                self._take(piece)
                self.packed += len(piece)
                self._mark_if_due()
        self._lengths.append(self.scan.end())

    def _run_packed(self, source: Unpacked) -> None:
        known, taken = self.frames, 0
        for block in source:
            if len(source.frames) > taken:  # the first block of a frame: all before it is whole
                self.frames = known + source.frames[:-1]
                self.packed, taken = source.frames[-1].packed, len(source.frames)
                self._mark_if_due()
            self._take(block)
        self.frames, self.packed = known + source.frames, source.packed

    def result(self) -> LineIndex:
        """The index. Raises DataFileError when the file is not the stated one."""
        found = self.digest.hexdigest() if self.digest is not None else None
        stated = self.identity.sha256
        if found is not None and stated is not None and found != stated:
            raise DataFileError(self.path, f"sha256 {stated}", found, "fetch it again; see 'open360 validate'")
        sha256 = found if found is not None else stated
        identity = FileIdentity(**{**asdict(self.identity), "sha256": sha256})
        lengths = np.concatenate([self._kept(), *self._lengths])
        return LineIndex(
            file=self.path,
            identity=identity,
            was_hashed=found is not None,
            begin=self.scan.first if self.scan.first is not None else self.scan.at,
            lengths=lengths,
            frames=tuple(self.frames) if is_packed(self.path) else None,
            unpacked=self.scan.at,
        )

    def _take(self, block: bytes | memoryview) -> None:
        self._lengths.append(self.scan.add(block))
        if self.scan.rows > MAX_ROWS:
            raise DataFileError(self.path, f"at most {MAX_ROWS} rows", "more", "split the file")

    # Marks

    def _mark_if_due(self) -> None:
        if self.folder is None or self.packed - self._marked < MARK_BYTES:
            return
        with (self.folder / "lengths").open("ab") as file:
            for lengths in self._lengths:
                file.write(lengths.astype("<u4").tobytes())
            file.flush()
            os.fsync(file.fileno())
        self._lengths = []
        self._marked = self.packed
        scan = self.scan
        state = {
            "path": self.path,
            "identity": asdict(self.identity),
            "packed": self.packed,
            "at": scan.at,
            "first": scan.first,
            "last": scan.last,
            "rows": scan.rows,
            "line": scan.line,
            "frames": len(self.frames),
            "stamp": self._stamp(),
        }
        write_bytes(self.folder / "frames", np.array(self.frames, dtype="<i8").tobytes())
        write_bytes(self.folder / "state.json", canonical_json(state))

    def _stamp(self) -> int | None:
        """When a file of this disk was changed last, which has no other mark."""
        if not isinstance(self.ranges, FolderRanges):
            return None
        return (self.ranges.root / self.path).stat().st_mtime_ns

    def _kept(self) -> NDArray[np.uint32]:
        file = self.folder / "lengths" if self.folder is not None else None
        if file is None or not file.exists():
            return np.empty(0, dtype=np.uint32)
        return np.fromfile(file, dtype="<u4")

    def _resume(self, folder: Path) -> None:
        state = self._state(folder)
        if state is None:
            for entry in folder.iterdir():
                entry.unlink()
            return
        os.truncate(folder / "lengths", 4 * max(state["rows"] - 1, 0))
        self.packed = self._marked = state["packed"]
        self.scan = LineScan(
            self.path,
            at=state["at"],
            first=state["first"],
            last=state["last"],
            rows=state["rows"],
            line=state["line"],
        )
        self.frames = [Frame(*pair) for pair in np.fromfile(folder / "frames", dtype="<i8").reshape(-1, 2).tolist()]
        self.digest = None
        if isinstance(self.ranges, FolderRanges):
            self.digest = hashlib.sha256()
            for at in range(0, self.packed, PIECE_BYTES):
                self.digest.update(self.ranges.read(self.path, at, min(at + PIECE_BYTES, self.packed)))

    def _state(self, folder: Path) -> dict[str, Any] | None:
        """What an earlier pass has left; None when there is nothing that fits."""
        try:
            state = parse_json((folder / "state.json").read_bytes(), "state of an index")
            sound = (
                state["path"] == self.path
                and state["identity"] == asdict(self.identity)
                and state["stamp"] == self._stamp()
                and all(type(state[key]) is int and state[key] >= 0 for key in _COUNTS)
                and (state["first"] is None or type(state["first"]) is int)
                and (folder / "lengths").stat().st_size >= 4 * (state["rows"] - 1)
                and (folder / "frames").stat().st_size == 16 * state["frames"]
            )
        except (OSError, SpecError, KeyError, TypeError):
            return None
        return state if sound else None
