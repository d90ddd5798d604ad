"""Digests of files: streamed, parallel over files, several digests of a file in one read of it.

* Memory is bounded: one buffer of `BLOCK_BYTES` for each file that is being read.
* A cache remembers digests by path, size, modification time, inode and change time. It only saves time: a line of it
  that is damaged is ignored, and a file that changed in the last two seconds of the clock is neither remembered nor
  looked up, since a second change in the same tick could not be told apart.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from open360.release.hash_cache import HashCache, identity_of
from open360.schema.digests import (
    TensorFileError,
    TensorSpan,
    parse_tensor_header,
    tensor_header_bytes,
    tensors_digest,
)

BLOCK_BYTES = 1 << 20
MAX_WORKERS = 16
TENSOR_SUFFIX = ".safetensors"
MAX_HEADER_BYTES = 32 << 20  # 250,000 tensors; a header of nothing but brackets takes thirty times its size in memory

Progress = Callable[[int, int, str], None]
OnError = Callable[[Path, OSError], None]


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """Size and sha256 of a file; of a safetensors file also the tensors digest (None when it is malformed)."""

    bytes: int
    sha256: str
    tensors: str | None = None


class Stopped(Exception):  # noqa: N818  not an error: the caller gave up
    """A reader was told to stop."""


class _Reading:
    """One pass over a file: every byte read goes into its sha256 and into a shared count."""

    def __init__(self, file: BinaryIO, size: int, count: Callable[[int], None]) -> None:
        self.file, self.count = file, count
        self.sha256 = hashlib.sha256()
        self.buffer = memoryview(bytearray(min(BLOCK_BYTES, max(size, 1))))
        self.bytes = 0

    def blocks(self, limit: int | None = None) -> Iterator[memoryview]:
        """The next `limit` bytes of the file (all that are left when None), in pieces."""
        left = limit
        while left is None or left > 0:
            room = self.buffer if left is None else self.buffer[: min(left, len(self.buffer))]
            read = self.file.readinto(room)  # type: ignore[attr-defined]
            if not read:
                return
            block = room[:read]
            self.sha256.update(block)
            self.bytes += read
            self.count(read)
            if left is not None:
                left -= read
            yield block

    def finish(self, tensors: str | None = None) -> FileDigest:
        """Read what is left, and return the digests."""
        for _ in self.blocks():
            pass
        return FileDigest(bytes=self.bytes, sha256=self.sha256.hexdigest(), tensors=tensors)


def _open(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """An unbuffered handle on a regular file (a pipe would block for ever)."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    file = path.open("rb", buffering=0)
    return file, os.fstat(file.fileno())


def hash_file(path: Path, count: Callable[[int], None] = lambda _: None) -> FileDigest:
    """Size and sha256 of a file. `count` is told the number of bytes of each read. Raises OSError."""
    file, status = _open(path)
    with file:
        return _Reading(file, status.st_size, count).finish()


def hash_tensor_file(path: Path, count: Callable[[int], None] = lambda _: None) -> tuple[FileDigest, str]:
    """Size, sha256 and tensors digest of a safetensors file, in one read.

    A file whose tensors do not lie in the order of their names needs a second read of the payloads (the tensors digest
    goes by name). Raises OSError, TensorFileError.
    """
    file, status = _open(path)
    with file:
        reading = _Reading(file, status.st_size, count)
        spans = _read_header(path, reading, status.st_size)
        if [span.begin for span in spans] == sorted(span.begin for span in spans):
            tensors = tensors_digest((span, reading.blocks(span.end - span.begin)) for span in spans)
            digest = reading.finish(tensors)
        else:
            digest = reading.finish()
            buffer = memoryview(bytearray(BLOCK_BYTES))
            tensors = tensors_digest((span, _payload(file, span, buffer)) for span in spans)
            digest = FileDigest(bytes=digest.bytes, sha256=digest.sha256, tensors=tensors)
    if digest.bytes != status.st_size:
        raise TensorFileError(str(path), f"it changed from {status.st_size} to {digest.bytes} bytes while it was read")
    return digest, tensors


def header_bytes(file: str, head: bytes, file_bytes: int) -> int:
    """Bytes of the length field and the header together. Raises TensorFileError when that cannot be, or is too much."""
    length = tensor_header_bytes(file, head, file_bytes)
    if length > MAX_HEADER_BYTES:
        raise TensorFileError(file, f"its header has {length} bytes, expected at most {MAX_HEADER_BYTES}")
    return length


def _read_header(path: Path, reading: _Reading, size: int) -> list[TensorSpan]:
    head = b"".join(bytes(block) for block in reading.blocks(8))
    length = header_bytes(path.name, head, size)
    head += b"".join(bytes(block) for block in reading.blocks(length - 8))
    return parse_tensor_header(path.name, head, size)


def _payload(file: BinaryIO, span: TensorSpan, buffer: memoryview) -> Iterator[memoryview]:
    at = span.begin
    while at < span.end:
        room = buffer[: min(len(buffer), span.end - at)]
        read = os.preadv(file.fileno(), [room], at)
        if not read:
            return
        yield room[:read]
        at += read


def tensors_digest_of(paths: Iterable[Path]) -> str:
    """Tensors digest of weights that are split over several safetensors files. Raises OSError, TensorFileError."""
    with ExitStack() as stack:
        found: list[tuple[TensorSpan, BinaryIO]] = []
        for path in paths:
            file, status = _open(path)
            stack.enter_context(file)
            head = os.pread(file.fileno(), 8, 0)
            head = os.pread(file.fileno(), header_bytes(path.name, head, status.st_size), 0)
            found += [(span, file) for span in parse_tensor_header(path.name, head, status.st_size)]
        found.sort(key=lambda pair: pair[0].name)
        names = [span.name for span, _ in found]
        if len(set(names)) != len(names):
            raise TensorFileError("the shards", "two of them hold tensors of one name")
        buffer = memoryview(bytearray(BLOCK_BYTES))
        return tensors_digest((span, _payload(file, span, buffer)) for span, file in found)


def _digest(path: Path, cache: HashCache | None, count: Callable[[int], None]) -> FileDigest:
    before = path.stat()
    known = cache.find(path, before) if cache is not None else None
    if known is not None:
        count(before.st_size)
        return FileDigest(bytes=before.st_size, sha256=known[0], tensors=known[1])
    digest = _read_digest(path, count)
    if cache is not None and identity_of(path.stat()) == identity_of(before):
        cache.keep(path, before, digest.sha256, digest.tensors)
    return digest


def _read_digest(path: Path, count: Callable[[int], None]) -> FileDigest:
    if path.name.endswith(TENSOR_SUFFIX):
        try:
            return hash_tensor_file(path, count)[0]
        except TensorFileError:
            return hash_file(path)
    return hash_file(path, count)


class _Counter:
    """Bytes read by all workers. Raises Stopped in them when the caller has gone."""

    def __init__(self) -> None:
        self.done, self.stopped, self._lock = 0, False, threading.Lock()

    def add(self, read: int) -> None:
        if self.stopped:
            raise Stopped
        with self._lock:
            self.done += read


def hash_files(
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    cache: HashCache | None = None,
    progress: Progress | None = None,
    on_error: OnError | None = None,
) -> Iterator[tuple[Path, FileDigest]]:
    """Digests of many files, in the order of `paths`, several files at a time.

    Args:
        workers: threads; as many as this process may use processors, at most 16, when None.
        cache: digests of earlier calls.
        progress: called from the caller's thread with (bytes done, bytes in all, name of a file).
        on_error: called with a file that cannot be read, which is then left out; the error is raised when None.
    Raises:
        OSError: a file cannot be read, and there is no `on_error`.
    """
    wanted = list(paths)
    total = sum(_size(path) for path in wanted) if progress is not None else 0
    workers = workers or min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    counter = _Counter()
    waiting: deque[tuple[Path, Future[FileDigest]]] = deque()
    left = iter(wanted)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="hash")
    try:
        while True:
            for path in islice(left, workers * 4 - len(waiting)):
                waiting.append((path, executor.submit(_digest, path, cache, counter.add)))
            if not waiting:
                return
            path, future = waiting.popleft()
            try:
                digest = _wait(future, lambda: progress and progress(counter.done, total, path.name))  # noqa: B023
            except OSError as error:
                if on_error is None:
                    raise
                on_error(path, error)
                continue
            yield path, digest
    finally:
        counter.stopped = True
        executor.shutdown(wait=True, cancel_futures=True)


def _wait(future: Future[FileDigest], tell: Callable[[], object]) -> FileDigest:
    while not future.done():
        wait([future], timeout=0.2)
        tell()
    return future.result()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
