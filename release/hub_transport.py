"""How answers of a Hub are read: by the stock client's session and headers, in blocks, never more than was allowed.

Nothing here believes a Hub: bodies are bounded in bytes and in time, also those of errors and redirects; they are not
decompressed; redirects are followed a few times, listings only on the Hub itself. The client's parts come from
`release/hub.py`, the one module that imports it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from open360.release.hub_answers import WrongAnswerError, take
from open360.release.pacing import Kind, Pacer

MAX_REDIRECTS = 8
MAX_ERROR_BYTES = 1 << 16
MAX_PAGES = 1_200
SLOWEST_BYTES = 10_000  # bytes a second; the time an answer may take grows with what has come


class SlowAnswerError(Exception):
    """An answer took longer than an answer may take."""


class HttpAnswer(Protocol):
    """What is used of the client's answers."""

    status_code: int
    headers: Mapping[str, str]
    url: Any
    request: Any
    next_request: Any
    links: Mapping[str | None, Mapping[str, str]]

    def iter_raw(self) -> Iterator[bytes]:
        """The body as it comes."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClientParts:
    """Parts of the stock client.

    Attributes:
        session: gives the client's session (`get_session`).
        headers: gives its headers for a request, token included (`build_hf_headers`).
        refuse: raises the client's error for an answer of status 400 or more (`hf_raise_for_status`).
        answer: makes an answer of status, headers, content and request (`httpx.Response`).
        timeout: how long it waits for a connection, and for the next bytes.
    """

    session: Callable[[], Any]
    headers: Callable[[], dict[str, str]]
    refuse: Callable[[Any], None]
    answer: Callable[..., Any]
    timeout: Any


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An answer whose body is still to be read; `headers` are those of the redirects that led to it, and its own."""

    status: int
    headers: Sequence[Mapping[str, str]]
    blocks: Iterator[bytes]
    next_url: str | None
    url: str


class Body(NamedTuple):
    """A whole answer of the API, the address of the page after it, and the address that gave it in the end."""

    data: bytes
    next_url: str | None
    url: str


class Transport:
    """Asks one Hub. Errors are the client's own, WrongAnswerError and SlowAnswerError."""

    def __init__(
        self,
        endpoint: str,
        client: ClientParts,
        pacer: Pacer,
        answer_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint, self.client, self.pacer = endpoint, client, pacer
        self._origin, self._answer_seconds, self._clock = origin(endpoint), answer_seconds, clock

    @contextlib.contextmanager
    def opened(self, kind: Kind, url: str, headers: Mapping[str, str], *, abroad: bool) -> Iterator[Opened]:
        """The answer to a GET. `abroad`: redirects may lead to other servers, as those of large files do."""
        session = self.client.session()
        sent = {**self.client.headers(), "Accept-Encoding": "identity", **headers}
        request = session.build_request("GET", url, headers=sent, timeout=self.client.timeout)
        told: list[Mapping[str, str]] = []
        for _ in range(MAX_REDIRECTS + 1):
            begun = self._clock()
            with self._sent(session, request, kind) as answer:
                told.append(answer.headers)
                if not 300 <= answer.status_code < 400:
                    self._refuse(answer, begun)
                    yield Opened(
                        status=answer.status_code,
                        headers=told,
                        blocks=self._blocks(answer, begun),
                        next_url=_next_url(answer),
                        url=str(request.url),
                    )
                    return
                request = self._redirected(answer, abroad=abroad)
        raise WrongAnswerError(f"expected at most {MAX_REDIRECTS} redirects, found more: they may go round in a circle")

    def body(self, url: str, max_bytes: int) -> Body:
        """A whole answer of the API of at most `max_bytes`."""
        with self.opened("api", url, {}, abroad=False) as answer:
            data = take(answer.blocks, 0, max_bytes + 1)
            if len(data) > max_bytes:
                raise WrongAnswerError(f"expected an answer of at most {max_bytes} bytes, found more")
            return Body(data, answer.next_url, answer.url)

    def check_next(self, first: str, url: str, seen: set[str]) -> str:
        """The address of a next page, when it is one: of the same listing on the same Hub, and not seen before."""
        here, there = urlsplit(first), urlsplit(url)
        if origin(url) != self._origin or there.path != here.path:
            raise WrongAnswerError(f"expected the next page of the same listing, found {url[:200]!r}")
        if url in seen:
            raise WrongAnswerError("expected pages that end, found one that was there before")
        if len(seen) > MAX_PAGES:
            raise WrongAnswerError(f"expected at most {MAX_PAGES} pages, found more")
        return url

    @contextlib.contextmanager
    def _sent(self, session: Any, request: Any, kind: Kind) -> Iterator[HttpAnswer]:
        if origin(str(request.url)) == self._origin:
            with self.pacer.call(kind) as learn:
                answer: HttpAnswer = session.send(request, stream=True, follow_redirects=False)
                learn(answer.headers)
        else:
            answer = session.send(request, stream=True, follow_redirects=False)
        try:
            yield answer
        finally:
            answer.close()

    def _redirected(self, answer: HttpAnswer, *, abroad: bool) -> Any:
        request = answer.next_request
        if request is None:
            raise WrongAnswerError(
                f"expected a redirect to somewhere, found status {answer.status_code} and no address"
            )
        target = str(request.url)
        if not abroad and origin(target) != self._origin:
            raise WrongAnswerError(f"expected an answer of this Hub, found a redirect to {target[:200]!r}")
        if urlsplit(self.endpoint).scheme == "https" and urlsplit(target).scheme != "https":
            raise WrongAnswerError(f"expected a redirect to an https address, found {target[:200]!r}")
        return request

    def _refuse(self, answer: HttpAnswer, begun: float) -> None:
        """Raise the client's error for a refusal. The client would read a body of any size for its message."""
        if answer.status_code >= 400:
            detail = take(self._blocks(answer, begun), 0, MAX_ERROR_BYTES)
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _OF_THE_BODY}
            told = {"headers": kept, "content": detail, "request": answer.request}
            self.client.refuse(self.client.answer(answer.status_code, **told))

    def _blocks(self, answer: HttpAnswer, begun: float) -> Iterator[bytes]:
        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise WrongAnswerError(f"expected an answer that is not compressed, found the encoding {encoding[:40]!r}")
        size = 0
        for block in answer.iter_raw():
            size += len(block)
            if self._clock() - begun > self._answer_seconds + size / SLOWEST_BYTES:
                raise SlowAnswerError(f"only {size} bytes came in {self._clock() - begun:.0f} seconds")
            yield block


_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of an address. Raises WrongAnswerError for an address that has none."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError as error:
        raise WrongAnswerError(f"expected an address, found {url[:200]!r}") from error


def _next_url(answer: HttpAnswer) -> str | None:
    found = answer.links.get("next", {}).get("url")
    return urljoin(str(answer.url), found) if found else None
