"""How often something is asked of a Hub, and how long is waited in between."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from open360.release.hub_errors import HubRateLimitedError, HubUnavailableError

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often a read is tried, and how long is waited before the next time (seconds).

    `longest_pause` also bounds what a Hub may ask for: a longer wait is an error for the caller to judge.
    """

    tries: int = 4
    first_pause: float = 0.4
    longest_pause: float = 60.0

    def pause(self, attempt: int) -> float:
        """Seconds before the next try, after `attempt` (0-based) has failed: doubling, jittered, bounded."""
        return min(self.first_pause * 2.0**attempt, self.longest_pause) * random.uniform(0.5, 1.0)  # noqa: S311

    def keep_asking(self, call: Callable[[], ResultT]) -> ResultT:
        """What `call` returns, tried again after failures that pass by themselves. Raises its last HubError."""
        for attempt in range(self.tries - 1):
            try:
                return call()
            except HubRateLimitedError as error:
                wait = self.pause(attempt) if error.wait is None else error.wait
                if wait > self.longest_pause:
                    raise
            except HubUnavailableError:
                wait = self.pause(attempt)
            time.sleep(wait)
        return call()
