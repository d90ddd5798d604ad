"""A count of every request and of the bytes of every answer, so that a test can show what a pull costs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROL_PREFIX = "/.open360/"
MAX_KINDS = 100_000
SETTLE_SECONDS, SETTLE_TURNS = 0.5, 100


@dataclass(frozen=True, kw_only=True, order=True)
class RequestKind:
    """What requests are counted by; `range` is the header as it came, or empty."""

    method: str
    route: str
    path: str
    status: int
    range: str


class Traffic:
    """Counts since the start, or since they were last reset. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[RequestKind, list[int]] = {}
        self._answers = 0

    def add(self, kind: RequestKind, *, bytes_in: int, bytes_out: int) -> None:
        """Count one request."""
        with self._lock:
            if kind not in self._counts and len(self._counts) >= MAX_KINDS:
                kind = RequestKind(method=kind.method, route=kind.route, path="*", status=kind.status, range="")
            counts = self._counts.setdefault(kind, [0, 0, 0])
            counts[0] += 1
            counts[1] += bytes_in
            counts[2] += bytes_out

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Note that an answer is being sent: its reader may have all of it a moment before it is counted."""
        with self._lock:
            self._answers += 1
        try:
            yield
        finally:
            with self._lock:
                self._answers -= 1

    async def settle(self) -> None:
        """Wait a moment for answers that are being sent, so that what a client has read is counted."""
        for _ in range(SETTLE_TURNS):
            if not self._answers:
                return
            await asyncio.sleep(SETTLE_SECONDS / SETTLE_TURNS)

    def reset(self) -> None:
        """Forget all counts."""
        with self._lock:
            self._counts.clear()

    def as_json(self) -> Mapping[str, object]:
        """All counts: totals, and one entry for each kind of request."""
        with self._lock:
            counts = sorted((kind, tuple(numbers)) for kind, numbers in self._counts.items())
        by = [
            {
                "method": kind.method,
                "route": kind.route,
                "path": kind.path,
                "status": kind.status,
                "range": kind.range or None,
                "count": count,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
            }
            for kind, (count, bytes_in, bytes_out) in counts
        ]
        return {
            "requests": sum(numbers[0] for _, numbers in counts),
            "bytes_in": sum(numbers[1] for _, numbers in counts),
            "bytes_out": sum(numbers[2] for _, numbers in counts),
            "by": by,
        }


class CountTraffic:
    """Middleware that counts what passes, except requests about the counting itself."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count it, also when it fails."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await self._app(scope, receive, send)
            return
        seen = {"status": 0, "in": 0, "out": 0}
        answering = contextlib.ExitStack()

        async def counted_receive() -> Message:
            message = await receive()
            seen["in"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                answering.enter_context(self._traffic.answering())
            if scope["method"] != "HEAD":
                seen["out"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            endpoint = scope.get("endpoint")
            kind = RequestKind(
                method=scope["method"],
                route=getattr(endpoint, "__name__", ""),
                path=scope["path"],
                status=seen["status"],
                range=dict(scope["headers"]).get(b"range", b"").decode("latin-1"),
            )
            self._traffic.add(kind, bytes_in=seen["in"], bytes_out=seen["out"])
            answering.close()


async def show_traffic(request: Request) -> Response:
    """Answer with all counts."""
    await request.app.state.traffic.settle()
    return JSONResponse(request.app.state.traffic.as_json())


async def reset_traffic(request: Request) -> Response:
    """Forget all counts."""
    await request.app.state.traffic.settle()
    request.app.state.traffic.reset()
    return Response(status_code=204)
