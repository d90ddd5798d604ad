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

    Attributes:
        longest_pause: bounds the pauses that grow.
        longest_wait: bounds what a Hub may ask for after too many requests (its windows are five minutes); a longer
            wait is an error for the caller to judge.
        answer_seconds: how long an answer may take, besides its bytes at ten kilobytes a second.
    """

    tries: int = 4
    first_pause: float = 0.4
    longest_pause: float = 60.0
    longest_wait: float = 330.0
    answer_seconds: float = 120.0

    def pause(self, attempt: int) -> float:
        """Seconds before the next try, after `attempt` (0-based) has failed: doubling, jittered, bounded."""
        return min(self.first_pause * 2.0**attempt, self.longest_pause) * random.uniform(0.5, 1.0)  # noqa: S311

    def keep_asking(self, call: Callable[[], ResultT], hold: Callable[[float], None] = time.sleep) -> ResultT:
        """What `call` returns, tried again after failures that pass by themselves. Raises its last HubError.

        `hold` is told the seconds that a Hub asks to wait after too many requests.
        """
        for attempt in range(self.tries - 1):
            try:
                return call()
            except HubRateLimitedError as error:
                if error.wait is None:
                    time.sleep(self.pause(attempt))
                elif error.wait > self.longest_wait:
                    raise
                else:
                    hold(error.wait)
            except HubUnavailableError:
                time.sleep(self.pause(attempt))
        return call()
