"""A server on this machine that answers every request as a test says: wrong ranges, too much, too little."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Status, headers and body. `length` promises another one; `blocks` are sent instead of a body, until they end."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    blocks: Iterable[bytes] | None = None


Behaviour = Callable[[str, str, str | None], Answer]  # method, path, Range header


@contextlib.contextmanager
def lying_server(behaviour: Behaviour) -> Iterator[str]:
    """Yield the address of a server that behaves so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            answer = behaviour(self.command, self.path, self.headers.get("Range"))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.blocks is None or answer.length is not None:
                self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            with contextlib.suppress(OSError):
                for block in self._blocks(answer):
                    self.wfile.write(block)
                    self.wfile.flush()
            if answer.length is not None or answer.blocks is not None:
                self.close_connection = True

        def _blocks(self, answer: Answer) -> Iterable[bytes]:
            if self.command == "HEAD":
                return ()
            return answer.blocks if answer.blocks is not None else (answer.body,)

        do_GET = do_HEAD = do_POST = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
