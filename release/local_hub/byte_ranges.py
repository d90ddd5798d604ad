"""The `Range` header (RFC 9110, section 14): one range of bytes, as every reader of files sends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from open360.release.local_hub.refusals import RefusalError

_RANGE = re.compile(r"bytes=(\d{0,20})-(\d{0,20})")


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes asked for, as (start, end) with `end` exclusive; None for the whole.

    A header that is not one simple range is ignored, as RFC 9110 allows.

    Raises:
        RefusalError: 416 when the range lies behind the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= end:
        message = f"Range not satisfiable: {header} of {size} bytes"
        raise RefusalError(416, message, headers={"Content-Range": f"bytes */{size}"})
    return start, end


def serve_bytes(
    request: Request, size: int, headers: Mapping[str, str], read: Callable[[int, int], Iterator[bytes]]
) -> Response:
    """Answer GET or HEAD for `size` bytes: 206 for a range, streamed by `read(start, end)`."""
    wanted = parse_range(request.headers.get("range"), size)
    start, end = wanted or (0, size)
    status = 206 if wanted else 200
    answer = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(end - start)}
    if wanted:
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    media_type = "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=answer, media_type=media_type)
    return StreamingResponse(read(start, end), status_code=status, headers=answer, media_type=media_type)
