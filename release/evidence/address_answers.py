"""What the host of an address answers, judged before anybody uses it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from open360.schema.errors import Open360Error

BLOCK_BYTES = 1 << 16
MAX_SECONDS = 300.0  # for one body
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
GONE = (404, 410)
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,19})")
_PAGES = ("text/html", "application/xhtml+xml")


class AddressError(Open360Error):
    """An address cannot be read: it is gone, does not answer, or answers with something else."""

    def __init__(self, url: str, problem: str) -> None:
        self.url, self.problem = url, problem
        super().__init__(f"{url[:300]}: {problem}; correct the address, or try again later")


class BrokenOffError(AddressError):
    """An answer ended before all of it had come; asking for the rest may help."""


@dataclass(frozen=True, kw_only=True)
class FileState:
    """What answers tell of the file at an address, as far as they do: another one of these is another file."""

    bytes: int | None
    etag: str | None

    def joined(self, url: str, other: FileState) -> FileState:
        """What both tell. Raises AddressError when they tell of different files."""
        if None not in (self.bytes, other.bytes) and self.bytes != other.bytes:
            raise AddressError(url, f"expected a file of {self.bytes} bytes, found one of {other.bytes}")
        if None not in (self.etag, other.etag) and self.etag != other.etag:
            found = f"expected the ETag {(self.etag or '')[:80]!r}, found {(other.etag or '')[:80]!r}"
            raise AddressError(url, f"it was changed while it was read: {found}")
        size = self.bytes if self.bytes is not None else other.bytes
        return FileState(bytes=size, etag=self.etag if self.etag is not None else other.etag)


@dataclass(frozen=True, kw_only=True)
class There:
    """The address answers; `bytes` is the size that it states, if any."""

    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Its host answers that there is nothing."""

    status: int


@dataclass(frozen=True, kw_only=True)
class Unreachable:
    """Nothing can be said of it."""

    reason: str


AddressState = There | Gone | Unreachable


def body_of(url: str, answer: requests.Response, limit: int) -> Iterator[bytes]:
    """The body of an answer, at most `limit` bytes of it. Raises AddressError."""
    coding = answer.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise AddressError(url, f"expected it as it is, was answered in the coding {coding[:40]!r}")
    deadline = time.monotonic() + MAX_SECONDS
    taken = 0
    while taken < limit:
        block = answer.raw.read1(min(BLOCK_BYTES, limit - taken), decode_content=False)
        if not block:
            return
        taken += len(block)
        yield block
        if time.monotonic() > deadline:
            raise AddressError(url, f"only {taken} bytes came in {MAX_SECONDS:.0f} seconds")


def state_of(status: int, answer: requests.Response) -> AddressState:
    """What an answer to HEAD, or to a request for the first byte, says of the address."""
    if status in GONE:
        return Gone(status=status)
    if status == 206:
        span = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        return There(bytes=int(span[3]) if span is not None and span[3] != "*" else None)
    if status in (200, 416):  # 416: an empty file has no first byte
        size = answer.headers.get("Content-Length", "")
        plain = status == 200 and size.isdecimal() and "Content-Encoding" not in answer.headers
        return There(bytes=int(size) if plain else None)
    return Unreachable(reason=told(status))


def part_of(url: str, answer: requests.Response, begin: int, end: int) -> tuple[FileState, int]:
    """What an answer to a request for bytes `[begin, end)` is a part of, and at which byte its body begins.

    Raises AddressError when it is anything else than these bytes, or the whole file.
    """
    size: int | None
    at = begin
    if answer.status_code == 206:
        span = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if span is None or (int(span[1]), int(span[2])) != (begin, end - 1):
            found = f"bytes {span[1]} to {span[2]} of {span[3]}" if span is not None else "no range"
            raise AddressError(url, f"expected bytes {begin} to {end - 1}, was answered with {found}")
        size = int(span[3]) if span[3] != "*" else None
    elif answer.status_code == 200:
        stated = answer.headers.get("Content-Length", "")
        size, at = int(stated) if stated.isdecimal() else None, 0
    elif answer.status_code == 416:
        there = _UNSATISFIED.fullmatch(answer.headers.get("Content-Range", ""))
        found = f"has {there[1]} bytes" if there is not None else "has fewer"
        raise AddressError(url, f"expected bytes {begin} to {end - 1}, the file {found}")
    else:
        raise AddressError(url, told(answer.status_code))
    kind = answer.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind in _PAGES and not urlsplit(url).path.lower().endswith((".html", ".htm", ".xhtml")):
        raise AddressError(url, f"expected a file, was answered with a page of the type {kind}")
    return FileState(bytes=size, etag=answer.headers.get("ETag")), at


def told(status: int) -> str:
    """A status in words."""
    return "there is nothing (HTTP 404)" if status == 404 else f"unexpected answer HTTP {status}"
