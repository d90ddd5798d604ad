"""Where the rows of a file of JSON lines begin: a small file that can be published beside the foreign one.

A line index holds the length of each row with all that follows up to the next row (deltas of the offsets), for a zstd
file also where its frames begin; which file it is of (size and digests); and a sha256 of its own at its end.

Format, little-endian: magic `O360LINE`, u32 version 1, u32 bytes of a header in JSON, header; zstd frames of the
columns, each byte of their numbers apart; sha256 of everything before. A chunk of Amber (1,706,976 rows, 20.8 GB) has
an index of some 3 MB. In memory a row takes 4 bytes, 8 while the index is read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from open360.release.formats.ranges import DataFileError, FileIdentity, Ranges
from open360.release.formats.zstd_stream import MAX_FRAMES, Frame
from open360.schema.errors import SpecError
from open360.schema.serialization import canonical_json, parse_json

MAGIC = b"O360LINE"
VERSION = 1
MAX_INDEX_BYTES = 512 << 20
MAX_ROWS = 1 << 27
MAX_HEADER_BYTES = 1 << 16
SUFFIX = ".lines"
MARK_ROWS = 4096
LEVEL = 9
_HEAD_BYTES = len(MAGIC) + 8
_AGAIN = "make it again with 'open360 index'"
_COUNTS = ("bytes", "rows", "begin", "unpacked", "frames")


@dataclass(frozen=True, kw_only=True, eq=False)
class LineIndex:
    """Rows of a file of JSON lines.

    Attributes:
        file: name of the file, for people.
        identity: of the file that was read.
        was_hashed: whether `identity.sha256` was computed of the very bytes that were read, not only stated.
        begin: bytes before the first row; of what is unpacked, as all places of rows.
        lengths: bytes of each row up to the next one, shape (rows,).
        frames: where zstd frames begin; None for a file that is not packed.
        unpacked: bytes of the file, unpacked.
    """

    file: str
    identity: FileIdentity
    was_hashed: bool
    begin: int
    lengths: NDArray[np.uint32]
    frames: tuple[Frame, ...] | None
    unpacked: int

    @property
    def rows(self) -> int:
        """Rows of the file: lines that are not blank."""
        return int(self.lengths.size)

    @cached_property
    def _marks(self) -> NDArray[np.int64]:
        """Where every `MARK_ROWS`-th row begins, and the end."""
        starts = np.arange(0, self.rows, MARK_ROWS)
        sums = np.add.reduceat(self.lengths, starts, dtype=np.int64) if self.rows else np.empty(0, np.int64)
        return self.begin + np.concatenate([np.zeros(1, np.int64), np.cumsum(sums)])

    def place(self, row: int) -> int:
        """The byte at which a row begins; for `rows` the end of the file."""
        if row == self.rows:
            return self.unpacked if self.rows else self.begin
        mark, first = row // MARK_ROWS, row // MARK_ROWS * MARK_ROWS
        return int(self._marks[mark]) + int(self.lengths[first:row].sum(dtype=np.int64))

    def places(self, first: int, end: int) -> NDArray[np.int64]:
        """Where rows `[first, end)` begin, and where the last one ends; shape (end - first + 1,)."""
        lengths = self.lengths[first:end].astype(np.int64)
        return self.place(first) + np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    @cached_property
    def _frame_starts(self) -> NDArray[np.int64]:
        return np.array([frame.unpacked for frame in self.frames or ()], dtype=np.int64)

    def frame_of(self, place: int) -> int:
        """Number of the zstd frame that holds a byte of what is unpacked."""
        return max(int(np.searchsorted(self._frame_starts, place, side="right")) - 1, 0)

    def to_bytes(self) -> bytes:
        """The index as a file."""
        columns = [_packed(self.lengths.astype("<u4"))]
        if self.frames is not None:
            places = np.array(self.frames, dtype="<i8").reshape(-1, 2)
            columns += [_packed(np.diff(places[:, part], prepend=0).astype("<u8")) for part in (0, 1)]
        header = {
            "file": self.file,
            "bytes": self.identity.bytes,
            "sha256": self.identity.sha256,
            "git_id": self.identity.git_id,
            "etag": self.identity.etag,
            "was_hashed": self.was_hashed,
            "rows": self.rows,
            "begin": self.begin,
            "unpacked": self.unpacked,
            "frames": len(self.frames) if self.frames is not None else None,
            "columns": [len(column) for column in columns],
        }
        text = canonical_json(header)
        sizes = VERSION.to_bytes(4, "little") + len(text).to_bytes(4, "little")
        body = MAGIC + sizes + text + b"".join(columns)
        return body + hashlib.sha256(body).digest()

    @property
    def is_zstd(self) -> bool:
        """Whether the file is packed."""
        return self.frames is not None

    def check_file(self, path: str, identity: FileIdentity) -> None:
        """Raise DataFileError when a file is another one than the index is of, as far as both are known."""
        for name in ("bytes", "sha256", "git_id", "etag"):
            expected, found = getattr(self.identity, name), getattr(identity, name)
            if expected is not None and found is not None and expected != found:
                thing = f"{path}, {name.replace('_', ' ')} of the file"
                raise DataFileError(thing, f"{expected} by its line index", str(found), _AGAIN)


def parse_line_index(name: str, data: bytes) -> LineIndex:
    """A line index from the bytes of its file. Raises DataFileError for anything else, or a damaged one."""
    if len(data) < _HEAD_BYTES + 32 or data[: len(MAGIC)] != MAGIC:
        raise DataFileError(name, "a line index", f"a file that begins with {data[:8]!r}", _AGAIN)
    found = hashlib.sha256(data[:-32]).digest()
    if found != data[-32:]:
        raise DataFileError(f"{name}, line index", f"sha256 {data[-32:].hex()}", found.hex(), _AGAIN)
    version, size = (int.from_bytes(data[at : at + 4], "little") for at in (len(MAGIC), len(MAGIC) + 4))
    if version != VERSION:
        raise DataFileError(f"{name}, version of the line index", str(VERSION), str(version), "install a newer open360")
    if size > min(MAX_HEADER_BYTES, len(data) - _HEAD_BYTES - 32):
        raise DataFileError(f"{name}, line index", f"a header of at most {MAX_HEADER_BYTES} bytes", str(size), _AGAIN)
    header = _header(name, data[_HEAD_BYTES : _HEAD_BYTES + size])
    columns = _columns(name, header, data[_HEAD_BYTES + size : -32])
    lengths = _unpacked(name, columns[0], header["rows"], "<u4")
    frames = None
    if header["frames"] is not None:
        packed, unpacked = (_unpacked(name, column, header["frames"], "<u8") for column in columns[1:])
        frames = _frames(name, header, packed, unpacked)
    if frames == () and lengths.size:
        raise DataFileError(f"{name}, line index", "frames that hold the rows", "none", _AGAIN)
    if header["begin"] + int(lengths.sum(dtype=np.int64)) != (header["unpacked"] if lengths.size else header["begin"]):
        raise DataFileError(f"{name}, line index", "rows up to the end of the file", "other lengths", _AGAIN)
    if header["frames"] is None and header["unpacked"] != header["bytes"]:
        raise DataFileError(f"{name}, line index", f"{header['bytes']} bytes", f"{header['unpacked']} bytes", _AGAIN)
    identity = FileIdentity(**{key: header[key] for key in ("bytes", "sha256", "git_id", "etag")})
    return LineIndex(
        file=header["file"],
        identity=identity,
        was_hashed=header["was_hashed"],
        begin=header["begin"],
        lengths=lengths,
        frames=frames,
        unpacked=header["unpacked"],
    )


def read_line_index(ranges: Ranges, path: str) -> LineIndex:
    """A line index that lies at `path`, read whole. Raises DataFileError and what `Ranges` raises."""
    size = ranges.identity(path).bytes
    if size > MAX_INDEX_BYTES:
        raise DataFileError(path, f"a line index of at most {MAX_INDEX_BYTES} bytes", f"{size} bytes", _AGAIN)
    return parse_line_index(path, bytes(ranges.read(path, 0, size)))


def _header(name: str, data: bytes) -> dict[str, Any]:
    try:
        header = parse_json(data, f"{name}, header")
    except SpecError as error:
        raise DataFileError(f"{name}, line index", "a header in JSON", "something else", _AGAIN) from error
    texts = ("sha256", "git_id", "etag")
    sound = (
        isinstance(header, dict)
        and set(header) == {"file", "was_hashed", "columns", *_COUNTS, *texts}
        and isinstance(header["file"], str)
        and isinstance(header["was_hashed"], bool)
        and all(header[key] is None or isinstance(header[key], str) for key in texts)
        and all(_is_count(header[key]) for key in _COUNTS if key != "frames")
        and (header["frames"] is None or (_is_count(header["frames"]) and header["frames"] <= MAX_FRAMES))
        and header["rows"] <= MAX_ROWS
        and isinstance(header["columns"], list)
        and len(header["columns"]) == (1 if header["frames"] is None else 3)
        and all(map(_is_count, header["columns"]))
    )
    if not sound:
        raise DataFileError(f"{name}, header of the line index", "its fields", json.dumps(header)[:200], _AGAIN)
    return dict(header)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _columns(name: str, header: dict[str, Any], data: bytes) -> list[bytes]:
    sizes = header["columns"]
    if sum(sizes) != len(data):
        raise DataFileError(f"{name}, line index", f"columns of {sum(sizes)} bytes", str(len(data)), _AGAIN)
    found, at = [], 0
    for size in sizes:
        found.append(data[at : at + size])
        at += size
    return found


def _frames(
    name: str, header: dict[str, Any], packed: NDArray[np.uint64], unpacked: NDArray[np.uint64]
) -> tuple[Frame, ...]:
    places = [np.cumsum(column.astype(np.float64)) for column in (packed, unpacked)]
    limits = (header["bytes"], header["unpacked"])
    if any(column.size and column[-1] > limit for column, limit in zip(places, limits, strict=True)):
        raise DataFileError(f"{name}, line index", "frames inside of the file", "others", _AGAIN)
    exact = [np.cumsum(column.astype(np.int64)).tolist() for column in (packed, unpacked)]
    return tuple(Frame(*place) for place in zip(*exact, strict=True))


def _packed(numbers: NDArray[Any]) -> bytes:
    planes = numbers.view(np.uint8).reshape(numbers.size, numbers.dtype.itemsize).T
    packed: bytes = zstandard.ZstdCompressor(level=LEVEL).compress(planes.tobytes())
    return packed


def _unpacked(name: str, column: bytes, count: int, dtype: str) -> NDArray[Any]:
    itemsize = np.dtype(dtype).itemsize
    try:
        stated = zstandard.frame_content_size(column)  # the decoder makes room for what a frame states
        if stated != count * itemsize:
            raise DataFileError(f"{name}, line index", f"a column of {count * itemsize} bytes", str(stated), _AGAIN)
        planes = zstandard.ZstdDecompressor().decompress(column, max_output_size=max(count * itemsize, 1))
    except zstandard.ZstdError as error:
        raise DataFileError(f"{name}, line index", "packed columns", str(error)[:200], _AGAIN) from error
    if len(planes) != count * itemsize:
        raise DataFileError(f"{name}, line index", f"{count * itemsize} bytes", str(len(planes)), _AGAIN)
    return np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(itemsize, count).T).view(dtype).reshape(count)
