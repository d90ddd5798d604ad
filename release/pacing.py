"""Pacing: no more calls than a Hub allows, and none later than needed.

The Hub allows so many calls in a fixed window of time, counted apart for its API and for files, and says with every
answer how many are left (headers `RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers-09). Here
two things are kept: never more starts in *any* window of that length than the quota, and none while nothing is left
of what the Hub has told last. A Hub that tells nothing is not waited for.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from open360.schema.errors import Open360Error

Kind = Literal["api", "resolvers"]

SHOWN_FROM = 2.0  # seconds; a shorter wait is not worth a line
MARGIN = 1.0  # seconds; a Hub tells the time to its reset in whole ones
SLICE = 0.25  # seconds; what is in flight may land, or everything be given up, meanwhile
LONGEST_WINDOW = 3_600
MOST_CALLS = 1_000_000

_LIMIT = re.compile(r'"(\w{1,40})"\s*;\s*r\s*=\s*(\d{1,9})\s*;\s*t\s*=\s*(\d{1,6})')
_POLICY = re.compile(r'"(\w{1,40})"\s*;\s*q\s*=\s*(\d{1,9})\s*;\s*w\s*=\s*(\d{1,6})')


class GivenUpError(Open360Error):
    """A wait was given up, because something else has failed or the person has stopped the command."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """So many calls in so many seconds."""

    calls: int
    seconds: float

    def __str__(self) -> str:
        return self.of("")

    def of(self, what: str) -> str:
        """The quota of something in words: `500 API calls per 5 minutes`."""
        span = f"{self.seconds / 60:g} minutes" if self.seconds > 60 else f"{self.seconds:g} s"
        return " ".join([f"{self.calls:,}", *([what] if what else []), "per", span])


# Documented limits of the public Hub in 2026-08; an account may have more, which its answers tell.
ANONYMOUS: Mapping[Kind, Quota] = {"api": Quota(calls=500, seconds=300), "resolvers": Quota(calls=3_000, seconds=300)}
WITH_TOKEN: Mapping[Kind, Quota] = {
    "api": Quota(calls=1_000, seconds=300),
    "resolvers": Quota(calls=5_000, seconds=300),
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the headers of an answer say: how many calls of a kind are left, until when, and the quota."""

    kind: str
    left: int
    resets_in: float
    quota: Quota | None


def told_by(headers: Mapping[str, str]) -> Told | None:
    """What headers say of a quota; None when they say nothing that can be read."""
    found = _LIMIT.search(headers.get("RateLimit", ""))
    if found is None:
        return None
    policy = _POLICY.search(headers.get("RateLimit-Policy", ""))
    quota = None
    if policy is not None and policy[1] == found[1]:
        calls, seconds = int(policy[2]), int(policy[3])
        if 0 < calls <= MOST_CALLS and 0 < seconds <= LONGEST_WINDOW:
            quota = Quota(calls=calls, seconds=seconds)
    resets_in = float(min(int(found[3]), LONGEST_WINDOW))
    return Told(kind=found[1], left=int(found[2]), resets_in=resets_in, quota=quota)


@dataclass(kw_only=True)
class _Lane:
    """The calls of one kind. All times are of the pacer's clock."""

    quota: Quota | None
    starts: deque[float] = field(default_factory=deque)
    flying: int = 0
    left: int | None = None  # as told last, less the calls that ended untold since
    resets: float = 0.0
    held_until: float = 0.0
    noticed_until: float = 0.0

    def ready_at(self, now: float) -> float:
        """When the next call may start; not after `now` when it may at once."""
        at = self.held_until
        if self.quota is not None:
            while self.starts and self.starts[0] + self.quota.seconds <= now:
                self.starts.popleft()
            if len(self.starts) >= self.quota.calls:
                at = max(at, self.starts[-self.quota.calls] + self.quota.seconds)
        if self.left is not None and now >= self.resets:
            self.left = None
        if self.left is not None and self.left <= self.flying:
            at = max(at, self.resets)
        return at

    def start(self, now: float) -> None:
        """Count a call that starts."""
        self.flying += 1
        if self.quota is not None:
            self.starts.append(now)

    def learn(self, told: Told, now: float) -> None:
        """Take in what an answer says. Answers overtake each other, so within one window the lowest count is right."""
        if told.quota is not None and told.quota != self.quota:
            if self.quota is None:
                self.starts.extend([now] * self.flying)
            self.quota = told.quota
        resets = now + told.resets_in + MARGIN
        is_later_window = self.left is None or resets > self.resets + 2 * MARGIN
        self.left = told.left if is_later_window else min(self.left or 0, told.left)
        self.resets = resets if is_later_window else self.resets


def to_stderr(text: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class Pacer:
    """Lets calls start when a Hub's quota allows it. Safe for several threads.

    Args:
        quotas: known beforehand, by kind of call; a kind without one waits only for what answers tell.
        clock, sleep: seconds that pass, and waiting for some.
        notice: called with a line of text before a wait of more than two seconds, once for each such wait of a kind.
    """

    def __init__(
        self,
        quotas: Mapping[Kind, Quota] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        notice: Callable[[str], None] = to_stderr,
    ) -> None:
        self.notice = notice
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._round = 0
        known = quotas or {}
        self._lanes: dict[Kind, _Lane] = {kind: _Lane(quota=known.get(kind)) for kind in ("api", "resolvers")}

    def quota(self, kind: Kind) -> Quota | None:
        """The quota of a kind of call, as far as it is known."""
        with self._lock:
            return self._lanes[kind].quota

    @contextlib.contextmanager
    def call(self, kind: Kind) -> Iterator[Callable[[Mapping[str, str]], None]]:
        """Wait until a call may start; yields what is to be given the headers of the answer, if one comes.

        Raises GivenUpError when `give_up` is called meanwhile.
        """
        lane = self._lanes[kind]
        self._wait(kind, lane)
        heard = False

        def learn(headers: Mapping[str, str]) -> None:
            nonlocal heard
            told = told_by(headers)
            if told is not None and told.kind == kind:
                heard = True
                with self._lock:
                    lane.learn(told, self._clock())

        try:
            yield learn
        finally:
            with self._lock:
                lane.flying -= 1
                if not heard and lane.left is not None:
                    lane.left = max(lane.left - 1, 0)

    def hold(self, kind: Kind, seconds: float) -> None:
        """Start no call of a kind for so long: the Hub has refused one and asks for it."""
        with self._lock:
            lane = self._lanes[kind]
            lane.held_until = max(lane.held_until, self._clock() + seconds)

    def give_up(self) -> None:
        """Let every call that waits now end with GivenUpError."""
        with self._lock:
            self._round += 1

    def _wait(self, kind: Kind, lane: _Lane) -> None:
        with self._lock:
            begun = self._round
        while True:
            with self._lock:
                now = self._clock()
                at = lane.ready_at(now)
                if at <= now:
                    lane.start(now)
                    return
                if self._round != begun:
                    raise GivenUpError(f"waiting for the Hub's quota was given up after a failure; {kind} calls")
                text = self._news(kind, lane, at, now)
            if text is not None:
                self.notice(text)
            self._sleep(min(max(at - now, 0.001), SLICE))

    def _news(self, kind: Kind, lane: _Lane, at: float, now: float) -> str | None:
        """What to say of a wait, when it is long and was not told yet."""
        if at - now <= SHOWN_FROM or at <= lane.noticed_until + SHOWN_FROM:
            return None
        lane.noticed_until = at
        what = "API calls" if kind == "api" else "file requests"
        limit = (
            f"the Hub takes {lane.quota.of(what)}" if lane.quota is not None else f"the Hub takes no {what} until then"
        )
        return f"waiting {at - now:.0f} s: {limit}"
