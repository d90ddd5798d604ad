"""Rehearsed faults: errors, cut connections and lost answers, on request.

A rehearsal tool, off unless the server is started with `--allow-faults`: it lets a lab see, before a real release,
that publishing and pulling survive a Hub that is slow, full, or unreachable in the middle.
"""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from open360.release.local_hub.connections import close_connection
from open360.release.local_hub.refusals import RefusalError
from open360.release.local_hub.requests import read_json
from open360.release.local_hub.traffic import CONTROL_PREFIX


class Match(BaseModel):
    """Which requests a fault is for; `path_regex` is searched in the path with its query, as it came."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str | None = None
    path_regex: str = ""

    @field_validator("path_regex")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern


class Fault(BaseModel):
    """One fault.

    * `status`: answer with `status` and `headers`; nothing else happens.
    * `cut`: close the connection after `after_bytes` of the body: of the request if it has one, else of the answer.
    * `lose_answer`: do what was asked, then close the connection without an answer.
    * `delay`: wait `seconds`, then do what was asked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    match: Match = Match()
    action: Literal["status", "cut", "lose_answer", "delay"]
    status: int = Field(default=500, ge=400, le=599)
    headers: dict[str, str] = {}
    message: str = "A rehearsed fault"
    times: int = Field(default=1, ge=1)
    after_bytes: int = Field(default=0, ge=0)
    seconds: float = Field(default=0.0, ge=0.0, le=600.0)


class Faults:
    """The faults that wait for their request. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[Fault, int]] = []

    def add(self, fault: Fault) -> None:
        """Let the next `times` requests that match meet a fault; the one added first goes first."""
        with self._lock:
            self._waiting.append((fault, fault.times))

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[dict[str, object]]:
        """All faults that are left, with how often."""
        with self._lock:
            return [{**fault.model_dump(), "times": left} for fault, left in self._waiting]

    def take(self, method: str, path: str) -> Fault | None:
        """Find and use up the fault for a request, if there is one."""
        with self._lock:
            for index, (fault, left) in enumerate(self._waiting):
                if fault.match.method in (None, method) and re.search(fault.match.path_regex, path):
                    self._waiting[index : index + 1] = [(fault, left - 1)] if left > 1 else []
                    return fault
        return None


class MeetFaults:
    """Middleware that lets requests meet their fault."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or do to it what the fault says."""
        fault = None
        if scope["type"] == "http" and not scope["path"].startswith(CONTROL_PREFIX):
            query = scope["query_string"].decode("latin-1")
            fault = self._faults.take(scope["method"], scope["path"] + (f"?{query}" if query else ""))
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.action == "status":
            await _drain(receive)
            headers = {"X-Error-Message": fault.message, **fault.headers}
            await JSONResponse({"error": fault.message}, fault.status, headers)(scope, receive, send)
        elif fault.action == "delay":
            await asyncio.sleep(fault.seconds)
            await self._app(scope, receive, send)
        elif fault.action == "lose_answer":
            await self._app(scope, receive, _discard)
            await _hang_up(scope, receive)
        elif scope["method"] in ("POST", "PUT"):
            await _cut_request(scope, receive, fault.after_bytes)
        else:
            await _cut_answer(self._app, scope, receive, send, fault.after_bytes)


async def _discard(_message: Message) -> None:
    """Send nothing."""


async def _drain(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _hang_up(scope: Scope, receive: Receive) -> None:
    close_connection(scope["client"])
    # The server takes a return without an answer for a bug, unless the connection is gone by then.
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cut_request(scope: Scope, receive: Receive, after: int) -> None:
    seen, more = 0, True
    while more and seen <= after:
        message = await receive()
        seen, more = seen + len(message.get("body", b"")), message.get("more_body", False)
    await _hang_up(scope, receive)


async def _cut_answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send, after: int) -> None:
    left, cut = after, False

    async def send_until_cut(message: Message) -> None:
        nonlocal left, cut
        if cut:
            return
        if message["type"] == "http.response.start":
            if after > 0:
                await send(message)
            return
        body = message.get("body", b"")[:left]
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            left -= len(body)
        if left <= 0 or not message.get("more_body", False):
            cut = True
            close_connection(scope["client"])

    await app(scope, receive, send_until_cut)
    await _hang_up(scope, receive)


async def add_fault(request: Request) -> Response:
    """Add a fault; 400 for one that does not exist."""
    try:
        fault = Fault.model_validate(dict(await read_json(request)))
    except ValidationError as error:
        raise RefusalError(400, f"Not a fault: {error}") from error
    request.app.state.faults.add(fault)
    return JSONResponse({"waiting": request.app.state.faults.waiting()})


async def list_faults(request: Request) -> Response:
    """Answer with the faults that are left."""
    return JSONResponse({"waiting": request.app.state.faults.waiting()})


async def clear_faults(request: Request) -> Response:
    """Forget all faults."""
    request.app.state.faults.clear()
    return Response(status_code=204)
