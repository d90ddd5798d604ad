"""A zstd file unpacked forwards, block by block, with the places where its frames begin.

Frames and blocks are told apart here, so that no call of the decoder gives more than a block (128 KiB), whatever the
bytes claim; its window takes at most `MAX_WINDOW_BYTES`. A frame is where reading may begin: pzstd and the seekable
format write many, a plain `zstd` one for the whole file. Format: RFC 8878.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import zstandard

from open360.release.formats.ranges import DataFileError

MAX_WINDOW_BYTES = 128 << 20
MAX_BLOCK_BYTES = 128 << 10
MAX_FRAMES = 1 << 24
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = tuple(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16))


class Frame(NamedTuple):
    """Where a frame begins: in the file, and in what is unpacked."""

    packed: int
    unpacked: int


class Unpacked:
    """What the bytes of a zstd file, from the beginning of a frame on, unpack to. Iterated once.

    Attributes:
        packed, unpacked: bytes taken and given so far; `start` is where both began.
        frames: those that have begun so far.
        at_border: whether everything taken so far is whole frames.
    """

    def __init__(
        self,
        name: str,
        source: Iterable[bytes | memoryview],
        start: Frame = Frame(0, 0),  # noqa: B008
    ) -> None:
        self.name, self.packed, self.unpacked = name, start.packed, start.unpacked
        self.frames: list[Frame] = []
        self.at_border = True
        self._source = iter(source)
        self._rest = memoryview(b"")

    def __iter__(self) -> Iterator[bytes]:
        """The blocks. Raises DataFileError for what is no zstd file, or ends in the middle of a frame."""
        while magic := self._take(4, may_end=True):
            self.at_border = False
            if magic in _SKIPPABLE:
                self._skip(int.from_bytes(self._take(4), "little"))
            elif magic == _MAGIC:
                self.frames.append(Frame(self.packed - 4, self.unpacked))
                yield from self._frame()
            else:
                raise self._wrong("a zstd frame", f"{magic!r} before byte {self.packed}")
            if len(self.frames) > MAX_FRAMES:
                raise self._wrong(f"at most {MAX_FRAMES} frames", "more")
            self.at_border = True

    def _frame(self) -> Iterator[bytes]:
        decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
        descriptor = self._take(1)[0]
        single = descriptor >> 5 & 1
        rest = self._take(1 - single + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6])
        self._decoded(decoder, _MAGIC + bytes([descriptor]) + rest)
        is_last = False
        while not is_last:
            head = self._take(3)
            number = int.from_bytes(head, "little")
            is_last, kind, size = bool(number & 1), number >> 1 & 3, number >> 3
            if kind == 3 or size > MAX_BLOCK_BYTES:
                raise self._wrong("zstd blocks", f"one of kind {kind} and {size} bytes before byte {self.packed}")
            given = self._decoded(decoder, head + self._take(1 if kind == 1 else size))
            self.unpacked += len(given)
            if given:
                yield given
        if descriptor >> 2 & 1:
            self._decoded(decoder, self._take(4))
        if not decoder.eof:
            raise self._wrong("a whole zstd frame", f"one without an end before byte {self.packed}")

    def _decoded(self, decoder: Any, data: bytes) -> bytes:
        try:
            given: bytes = decoder.decompress(data)
        except zstandard.ZstdError as error:
            raise self._wrong("a zstd frame", f"none before byte {self.packed} ({str(error)[:200]})") from error
        return given

    def _take(self, size: int, *, may_end: bool = False) -> bytes:
        found = bytearray()
        while len(found) < size:
            if not self._rest:
                block = next(self._source, None)
                if block is None:
                    break
                self._rest = memoryview(block)
            part = self._rest[: size - len(found)]
            found += part
            self._rest = self._rest[len(part) :]
        self.packed += len(found)
        if len(found) < size and (found or not may_end):
            raise self._wrong("whole zstd frames", f"an end in the middle of one at byte {self.packed}")
        return bytes(found)

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._take(min(size, MAX_BLOCK_BYTES)))

    def _wrong(self, expected: str, found: str) -> DataFileError:
        return DataFileError(self.name, expected, found, "fetch the file again, or correct its format in the spec")
