"""The open connections of the server, so that a rehearsed fault can cut one."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_open: dict[tuple[str, int], asyncio.Transport] = {}


class TrackedProtocol(H11Protocol):
    """HTTP/1.1, with every connection findable by the address of its client."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember a connection."""
        super().connection_made(transport)
        if self.client is not None:
            _open[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self.client is not None:
            _open.pop(self.client, None)
        super().connection_lost(exc)


def close_connection(client: Any) -> None:
    """Close the connection of a client once what was sent has left; no answer can follow."""
    transport = _open.get(tuple(client) if client else ("", 0))
    if transport is not None:
        transport.close()
