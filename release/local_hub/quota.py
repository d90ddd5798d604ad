"""A rehearsed quota: so many API calls in a fixed window, told with every answer, and refused beyond (429).

Off unless the server is started with `--api-quota`; headers are those of the real Hub
(draft-ietf-httpapi-ratelimit-headers-09). Files are not counted.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from open360.schema.errors import Open360Error

_FORM = re.compile(r"([1-9][0-9]{0,6})/([1-9][0-9]{0,3})")


class QuotaFormError(Open360Error):
    """A quota that is not written as CALLS/SECONDS."""


@dataclass(frozen=True, kw_only=True)
class ApiQuota:
    """So many calls in a window of so many seconds."""

    calls: int
    seconds: int


def parse_quota(text: str) -> ApiQuota:
    """`500/300`. Raises QuotaFormError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise QuotaFormError(f"--api-quota: expected CALLS/SECONDS such as 500/300, found {text[:40]!r}; correct it")
    return ApiQuota(calls=int(found[1]), seconds=int(found[2]))


class KeepQuota:
    """Middleware that counts API calls of all clients together, tells what is left, and refuses what is too much."""

    def __init__(self, app: ASGIApp, quota: ApiQuota, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._quota, self._clock = app, quota, clock
        self._lock = threading.Lock()
        self._ends, self._used = 0.0, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        allowed, headers = self._count()

        async def told(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        if allowed:
            await self._app(scope, receive, told)
        else:
            text = "Too Many Requests: the rehearsed quota of API calls is used up"
            await JSONResponse({"error": text}, 429, {"X-Error-Message": text})(scope, receive, told)

    def _count(self) -> tuple[bool, list[tuple[bytes, bytes]]]:
        quota = self._quota
        with self._lock:
            now = self._clock()
            if now >= self._ends:
                self._ends, self._used = now + quota.seconds, 0
            allowed = self._used < quota.calls
            self._used += allowed
            left, resets = quota.calls - self._used, math.ceil(self._ends - now)
        return allowed, [
            (b"ratelimit", f'"api";r={left};t={resets}'.encode()),
            (b"ratelimit-policy", f'"fixed window";"api";q={quota.calls};w={quota.seconds}'.encode()),
        ]
