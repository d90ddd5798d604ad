"""Addresses outside the Hub that a spec names: are they there, and what is in them.

Rules of this module:

* http and https only, few redirects, no credentials (neither ours nor those in an address), nothing executed.
* Every answer is bounded in bytes and time; what is not what was asked for is an AddressError.
* A host is asked at most `REQUESTS_A_SECOND` times a second, and left alone once it has failed to answer a few times.
* "Gone" is said of an address only when its host answered so (404, 410); a host that does not answer says nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from open360.release.evidence.address_answers import (
    AddressError,
    AddressState,
    BrokenOffError,
    FileState,
    Gone,
    There,
    Unreachable,
    body_of,
    part_of,
    state_of,
    told,
)
from open360.release.filling import Filling
from open360.release.hub_errors import asked_wait

__all__ = ["AddressError", "AddressState", "Addresses", "Gone", "Pace", "There", "Unreachable", "is_public"]

AT_A_TIME = 8
READS_AT_A_TIME = 32  # connections of a host that are kept
REQUESTS_A_SECOND = 20.0
MAX_REDIRECTS = 5
TRIES = 3
MAX_FAILURES_OF_A_HOST = 3
LONGEST_WAIT = 30.0  # seconds that a host may ask us to wait
TIMEOUT = (10.0, 30.0)  # seconds to connect, seconds without a byte
MAX_KEPT_BYTES = 64 << 20
WORTH_GOING_ON = 1 << 16  # bytes that must have come before a cut answer counts as progress
SHOWS_A_PAGE = 512  # bytes by which a page of HTML is told
MAX_SKIPPED_BYTES = 8 << 20  # read over, of a host that does not know ranges

_TRY_AGAIN = (429, 500, 502, 503, 504)
_PAGE = re.compile(rb"\s{0,64}<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)
_NO_HEAD = (400, 403, 405, 406, 501)
_FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)

Progress = Callable[[int, int, str], None]


class _FailedError(Exception):
    """No answer came; the message says why."""


class Pace:
    """Spreads requests: at most `per_second` a second for each key. Safe for several threads."""

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.interval, self._clock, self._sleep = 1.0 / per_second, clock, sleep
        self._free_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, key: str) -> None:
        """Return when the next request of `key` may start."""
        with self._lock:
            now = self._clock()
            start = max(now, self._free_at.get(key, now))
            self._free_at[key] = start + self.interval
        self.pause(start - now)

    def pause(self, seconds: float) -> None:
        """Wait so long."""
        if seconds > 0:
            self._sleep(seconds)


class Addresses:
    """Looks at addresses and reads them; what was seen once is kept in memory. Safe for several threads.

    Args:
        public_only: refuse addresses of this machine and its network, which a spec of others has no business naming.
    """

    def __init__(self, progress: Progress | None = None, *, public_only: bool = True, pace: Pace | None = None) -> None:
        self.progress, self.public_only = progress, public_only
        self._pace = pace if pace is not None else Pace(REQUESTS_A_SECOND)
        self._session = _open_session()
        self._states: dict[str, AddressState] = {}
        self._bodies: dict[str, bytes] = {}
        self._failures: Counter[str] = Counter()
        self._refusals: dict[str, str | None] = {}
        self._files: dict[str, FileState] = {}
        self._lock = threading.Lock()

    def state(self, url: str) -> AddressState:
        """Whether `url` is there, gone, or cannot be reached: by HEAD, or by its first byte where HEAD is refused."""
        if url not in self._states:
            self._states[url] = self._look(url)
        return self._states[url]

    def states(self, urls: Iterable[str]) -> dict[str, AddressState]:
        """Many at once."""
        wanted = list(dict.fromkeys(urls))
        found: dict[str, AddressState] = {}
        with ThreadPoolExecutor(AT_A_TIME) as executor:
            for number, (url, state) in enumerate(zip(wanted, executor.map(self.state, wanted), strict=True), 1):
                found[url] = state
                if self.progress is not None:
                    self.progress(number, len(wanted), urlsplit(url).netloc)
        return found

    def read(self, url: str, max_bytes: int) -> bytes:
        """All of it. Raises AddressError, also when it is larger than `max_bytes`."""
        kept = self._bodies.get(url)
        if kept is not None and len(kept) <= max_bytes:
            return kept
        with self._asked("GET", url, {}) as answer:
            if answer.status_code != 200:
                raise AddressError(url, told(answer.status_code))
            data = b"".join(body_of(url, answer, max_bytes + 1))
            if len(data) > max_bytes:
                raise AddressError(url, f"expected at most {max_bytes} bytes, found more")
            stated = answer.headers.get("Content-Length", "")
            if stated.isdecimal() and int(stated) != len(data):
                raise AddressError(url, f"expected {stated} bytes, found {len(data)}")
        if sum(map(len, self._bodies.values())) + len(data) <= MAX_KEPT_BYTES:
            self._bodies[url] = data
        return data

    def read_range(self, url: str, begin: int, end: int) -> bytes:
        """Bytes `[begin, end)`: exactly these, or an AddressError. What breaks off is gone on with.

        All that is read of an address has to be of one file: another size or ETag than before is an error.
        """
        return bytes(self.read_buffer(url, begin, end))

    def read_buffer(self, url: str, begin: int, end: int) -> memoryview:
        """The same without a second copy in memory."""
        kept = Filling(max(end - begin, 0))
        failed = 0
        while kept.missing:
            before = kept.filled
            try:
                self._read_on(url, begin + before, end, kept)
            except BrokenOffError:
                failed = 0 if kept.filled - before >= WORTH_GOING_ON else failed + 1
                if failed == TRIES:
                    raise
                self._pace.pause(0.5 * 2.0 ** (failed - 1) if failed else 0.0)
        return kept.data

    def _read_on(self, url: str, begin: int, end: int, kept: Filling) -> None:
        """Add what comes of bytes `[begin, end)` to `kept`; BrokenOffError when it is not all."""
        with self._asked("GET", url, {"Range": f"bytes={begin}-{end - 1}"}) as answer:
            state, at = part_of(url, answer, begin, end)
            self._is_same_file(url, state)
            skipped = begin - at
            if skipped > MAX_SKIPPED_BYTES:
                raise AddressError(url, "expected a part of it, but the host sends whole files only")
            wanted, came = skipped + end - begin, 0
            for block in body_of(url, answer, max(wanted, SHOWS_A_PAGE)):
                if came == 0 and at == 0 and _PAGE.match(block):
                    raise AddressError(url, "expected a file, was answered with a page of HTML")
                kept.add(block[max(skipped - came, 0) :])
                came += len(block)
                if came >= wanted:
                    break
        if came < wanted:
            found = max(came - skipped, 0)
            raise BrokenOffError(url, f"expected {end - begin} bytes from byte {begin} on, found {found}")

    def _is_same_file(self, url: str, state: FileState) -> None:
        with self._lock:
            known = self._files.get(url)
            self._files[url] = known.joined(url, state) if known is not None else state

    def expect(self, url: str, size: int) -> None:
        """From now on an answer that tells of a file of another size is an error. Raises AddressError."""
        self._is_same_file(url, FileState(bytes=size, etag=None))

    def etag(self, url: str) -> str | None:
        """The ETag of an address that was looked at or read, if its host gave one."""
        known = self._files.get(url)
        return known.etag if known is not None else None

    def _look(self, url: str) -> AddressState:
        try:
            with self._asked("HEAD", url, {}) as answer:
                status = answer.status_code
                if status not in _NO_HEAD:
                    return self._remembered(url, state_of(status, answer), answer)
            with self._asked("GET", url, {"Range": "bytes=0-0"}) as answer:
                return self._remembered(url, state_of(answer.status_code, answer), answer)
        except AddressError as error:
            return Unreachable(reason=error.problem)

    def _remembered(self, url: str, state: AddressState, answer: requests.Response) -> AddressState:
        if isinstance(state, There):
            self._is_same_file(url, FileState(bytes=state.bytes, etag=answer.headers.get("ETag")))
        return state

    @contextlib.contextmanager
    def _asked(self, method: str, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The answer to a request, redirects followed, its body not read yet. Raises AddressError."""
        try:
            answer = self._follow(method, url, headers)
        except _FailedError as error:
            raise AddressError(url, str(error)) from error
        try:
            yield answer
        except _FAILURES as error:
            raise BrokenOffError(url, f"its answer broke off ({type(error).__name__})") from error
        finally:
            answer.close()

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._patiently(method, url, headers)
            target = answer.headers.get("Location")
            if not answer.is_redirect or target is None:
                return answer
            answer.close()
            url = urljoin(url, target)
        raise _FailedError(f"more than {MAX_REDIRECTS} redirects")

    def _patiently(self, method: str, url: str, headers: dict[str, str]) -> requests.Response:
        """One request, asked again when its host is busy."""
        host = self._checked_host(url)
        problem = ""
        for attempt in range(TRIES):
            if self._failures[host] >= MAX_FAILURES_OF_A_HOST:
                raise _FailedError(problem or f"{host} does not answer")
            if self.public_only or is_public(urlsplit(url).hostname or ""):
                self._pace.wait(host)  # a server on this machine needs no sparing
            wait = 0.5 * 2.0**attempt
            try:
                answer = self._session.request(
                    method, url, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
                )
            except _FAILURES as error:
                self._failures[host] += 1
                problem = f"no answer ({type(error).__name__})"
            else:
                self._failures[host] = 0
                asked = asked_wait(answer.headers)
                if answer.status_code not in _TRY_AGAIN or attempt == TRIES - 1 or (asked or 0.0) > LONGEST_WAIT:
                    return answer
                answer.close()
                wait = asked if asked is not None else wait
            if attempt < TRIES - 1:
                self._pace.pause(wait)
        raise _FailedError(problem)

    def _checked_host(self, url: str) -> str:
        """Host and port of an address that may be asked. Raises _FailedError."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise _FailedError("it is no address") from error
        if parts.scheme not in ("http", "https") or not host:
            raise _FailedError("only http and https addresses are looked at")
        if parts.username is not None or parts.password is not None:
            raise _FailedError("it holds a user name or password")
        if self.public_only:
            if host not in self._refusals:
                self._refusals[host] = None if is_public(host) else f"{host} is no public host"
            refusal = self._refusals[host]
            if refusal is not None:
                raise _FailedError(refusal)
        return f"{host}:{port or parts.scheme}"


def _open_session() -> requests.Session:
    session = requests.Session()
    adapter = requests.adapters.HTTPAdapter(pool_connections=64, pool_maxsize=READS_AT_A_TIME)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers.update({"User-Agent": "open360", "Accept": "*/*", "Accept-Encoding": "identity"})
    session.auth = lambda request: request  # else the client would send what ~/.netrc holds for a host
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # no host learns of an earlier visit
    return session


def is_public(host: str) -> bool:
    """Whether a host is outside of this machine and its network, as far as it can be told."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return True  # a proxy may know the name; without one the request says that it is not known
    return all(ipaddress.ip_address(str(address).split("%")[0]).is_global for address in found)
