"""What the host of an address answers, judged before anybody uses it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

import requests

from open360.schema.errors import Open360Error

BLOCK_BYTES = 1 << 16
MAX_SECONDS = 300.0  # for one body
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
GONE = (404, 410)


class AddressError(Open360Error):
    """An address cannot be read: it is gone, does not answer, or answers with something else."""

    def __init__(self, url: str, problem: str) -> None:
        self.url, self.problem = url, problem
        super().__init__(f"{url[:300]}: {problem}; correct the address, or try again later")


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


def told(status: int) -> str:
    """A status in words."""
    return "there is nothing (HTTP 404)" if status == 404 else f"unexpected answer HTTP {status}"
