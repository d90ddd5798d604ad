"""An http server for the addresses outside the Hub that a release names: pages from a dictionary, ranges, counts."""

from __future__ import annotations

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class Pages:
    """What the server shows, by path; `asked` counts requests by method and path."""

    url: str
    content: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)


@contextlib.contextmanager
def page_server() -> Iterator[Pages]:
    """Serve pages until the block ends; paths that are not in `content` are 404."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            pages.asked[self.command, self.path] += 1
            body = pages.content.get(self.path)
            status, headers = (404, {}) if body is None else (200, {"Accept-Ranges": "bytes"})
            body = body if body is not None else b"not found"
            span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if status == 200 and span is not None:
                begin, end = int(span[1]), min(int(span[2] or len(body) - 1), len(body) - 1)
                headers["Content-Range"] = f"bytes {begin}-{end}/{len(body)}"
                status, body = 206, body[begin : end + 1]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

        do_GET = do_HEAD = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages = Pages(url=f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
