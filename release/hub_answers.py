"""What a Hub answers with is checked here, before anybody uses it. No client, no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from open360.release.hub_objects import git_id_of

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(?:\d+|\*)")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def take(blocks: Iterable[bytes], begin: int, end: int) -> bytes:
    """Bytes `[begin, end)` of a body, or fewer when it ends before; reads no further than needed."""
    taken, at = bytearray(), 0
    for block in blocks:
        taken += block[max(begin - at, 0) : max(end - at, 0)]
        at += len(block)
        if at >= end:
            break
    return bytes(taken)


def is_span(content_range: str, begin: int, end: int) -> bool:
    """Whether a `Content-Range` header says bytes `[begin, end)`."""
    found = _CONTENT_RANGE.fullmatch(content_range)
    return found is not None and (int(found[1]), int(found[2])) == (begin, end - 1)


def agrees(data: bytes, headers: Iterable[Mapping[str, str]]) -> bool:
    """Whether the ETags of an answer and of the redirects before it are of these bytes; True when none is a digest.

    The Hub's ETag is the sha256 of a large file, and the git id of a small one.
    """
    tags = [header.get(name, "") for header in headers for name in ("X-Linked-ETag", "ETag")]
    known = {tag for tag in (tag.removeprefix("W/").strip('"') for tag in tags) if _DIGEST.fullmatch(tag)}
    return not known or bool({hashlib.sha256(data).hexdigest(), git_id_of(data)} & known)
