"""What a Hub answers with is checked here, before anybody uses it. No client, no network.

Memory of an answer is bounded by its bytes (see the limits) and by its parts: what has more commas or brackets than
any honest answer is refused before it is parsed, so that a parsed answer takes at most some ten times its bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from open360.release.filling import Filling
from open360.release.hub_objects import Refs, RemoteFile, git_id_of
from open360.schema.errors import SpecError
from open360.schema.names import MAX_FILE_BYTES
from open360.schema.serialization import parse_json

MAX_REFS = 200_000
MAX_REFS_BYTES = 32 << 20
MAX_PAGE_BYTES = 4 << 20  # a page holds a thousand files or commits
MAX_INFO_BYTES = 16 << 20
MAX_PATH_BYTES = 4_096
MAX_REF_CHARS = 255
PARTS_OF_A_REF = 8  # commas in its description, and then some
MAX_PARTS_OF_A_PAGE = 200_000

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_GIT_ID = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class WrongAnswerError(ValueError):
    """An answer that cannot be right; the message says what was expected and what was found."""


def parse_refs(data: bytes) -> Refs:
    """Branches and tags. Raises WrongAnswerError."""
    answer = _parse(data, "refs", MAX_REFS * PARTS_OF_A_REF)
    if not isinstance(answer, dict):
        raise _wrong("an object of refs", answer)
    found = []
    for kind in ("branches", "tags"):
        listed = answer.get(kind)
        if not isinstance(listed, list):
            raise _wrong(f"a list of {kind}", listed)
        if len(listed) > MAX_REFS:
            raise WrongAnswerError(f"expected at most {MAX_REFS} {kind}, found {len(listed)}")
        commits: dict[str, str] = {}
        for ref in listed:
            name, commit = _parse_ref(ref)
            if commits.setdefault(name, commit) != commit:
                raise WrongAnswerError(f"expected one commit of the ref {_shown(name)}, found two")
        found.append(commits)
    return Refs(branches=found[0], tags=found[1])


def _parse_ref(ref: Any) -> tuple[str, str]:
    if not isinstance(ref, dict):
        raise _wrong("an object for each ref", ref)
    name, commit = ref.get("name"), ref.get("targetCommit")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_REF_CHARS or _CONTROL.search(name) or not _is_text(name):
        raise _wrong("the name of a ref (git check-ref-format)", name)
    if not isinstance(commit, str) or _GIT_ID.fullmatch(commit) is None:
        raise _wrong(f"a commit of the ref {_shown(name)}", commit)
    return name, commit


def parse_tree(data: bytes) -> dict[str, RemoteFile]:
    """Files of one page of a tree by their paths. Raises WrongAnswerError."""
    answer = _parse(data, "tree", MAX_PARTS_OF_A_PAGE)
    if not isinstance(answer, list):
        raise _wrong("a list of files", answer)
    found: dict[str, RemoteFile] = {}
    for entry in answer:
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise _wrong("a file or directory with its type", entry)
        path = _check_path(entry.get("path"))
        if entry["type"] == "file":
            if path in found:
                raise WrongAnswerError(f"expected the file {_shown(path)} once, found it twice")
            found[path] = _parse_file(path, entry)
    return found


def _check_path(path: Any) -> str:
    """A path as git can hold one: relative, and staying inside. What else it may be called is a rule's business."""
    if not isinstance(path, str) or not _is_text(path):
        raise _wrong("a path", path)
    parts = path.split("/")
    if "\0" in path or len(path.encode()) > MAX_PATH_BYTES or any(part in ("", ".", "..") for part in parts):
        raise _wrong("a path that stays inside the repository", path)
    return path


def _parse_file(path: str, entry: Mapping[str, Any]) -> RemoteFile:
    git_id, lfs = entry.get("oid"), entry.get("lfs")
    if not isinstance(git_id, str) or _GIT_ID.fullmatch(git_id) is None:
        raise _wrong(f"the git id of the file {_shown(path)}", git_id)
    size, sha256 = entry.get("size"), None
    if lfs is not None:
        sha256 = lfs.get("oid") if isinstance(lfs, dict) else lfs
        if not isinstance(sha256, str) or _SHA256.fullmatch(sha256) is None:
            raise _wrong(f"the sha256 of the file {_shown(path)}", sha256)
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        raise _wrong(f"the size of the file {_shown(path)} (0 to {MAX_FILE_BYTES} bytes)", size)
    return RemoteFile(bytes=size, sha256=sha256, git_id=git_id)


def parse_info(data: bytes) -> str:
    """The commit that a repository is described at. Raises WrongAnswerError."""
    answer = _parse(data, "description", MAX_REFS * PARTS_OF_A_REF)
    return _commit(answer.get("sha") if isinstance(answer, dict) else answer)


def parse_history(data: bytes) -> list[str]:
    """Commits of one page of a history, newest first. Raises WrongAnswerError."""
    answer = _parse(data, "history", MAX_PARTS_OF_A_PAGE)
    if not isinstance(answer, list):
        raise _wrong("a list of commits", answer)
    return [_commit(entry.get("id") if isinstance(entry, dict) else entry) for entry in answer]


def _commit(found: Any) -> str:
    if not isinstance(found, str) or _GIT_ID.fullmatch(found) is None:
        raise _wrong("a commit", found)
    return found


def _parse(data: bytes, what: str, max_parts: int) -> Any:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > max_parts:
        raise WrongAnswerError(f"expected a {what} of at most {max_parts} parts, found more")
    try:
        return parse_json(data, what)
    except SpecError as error:
        raise WrongAnswerError(f"it cannot be understood ({error.problems[0].message[:200]})") from error


def _is_text(text: str) -> bool:
    """Whether a string can be written as UTF-8: JSON can spell half characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong(expected: str, found: Any) -> WrongAnswerError:
    return WrongAnswerError(f"expected {expected}, found {_shown(found)}")


def _shown(value: Any) -> str:
    """A value for a message: short, and with every character that is not printable as an escape."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if type(value) is int and abs(value) > 10**20:
        return "a number beyond all use"
    text = repr(value[:120] if isinstance(value, str) else value)
    return text.encode("ascii", "backslashreplace").decode()


def take(blocks: Iterable[bytes], begin: int, end: int) -> bytes:
    """Bytes `[begin, end)` of a body, or fewer when it ends before; reads no further than needed."""
    taken = bytearray()
    for block in _cut(blocks, begin, end):
        taken += block
    return bytes(taken)


def take_into(kept: Filling, blocks: Iterable[bytes], begin: int) -> None:
    """Fill what is missing with the bytes of a body from `begin` on, as far as they come."""
    for block in _cut(blocks, begin, begin + kept.missing):
        kept.add(block)


def _cut(blocks: Iterable[bytes], begin: int, end: int) -> Iterator[bytes]:
    at = 0
    for block in blocks:
        yield block[max(begin - at, 0) : max(end - at, 0)]
        at += len(block)
        if at >= end:
            break


def is_span(content_range: str, begin: int, end: int, size: int | None = None) -> bool:
    """Whether a `Content-Range` header says bytes `[begin, end)`, of a file of `size` bytes when that is known."""
    found = _CONTENT_RANGE.fullmatch(content_range)
    if found is None or (int(found[1]), int(found[2])) != (begin, end - 1):
        return False
    return size is None or found[3] in ("*", str(size))


def check_file(file: RemoteFile, status: int, headers: Iterable[Mapping[str, str]]) -> None:
    """Raise WrongAnswerError when an answer, or a redirect before it, tells of another file than the listed one."""
    told = list(headers)
    tags = [header.get(name, "").removeprefix("W/").strip('"') for header in told for name in ("X-Linked-ETag", "ETag")]
    digests = [tag for tag in tags if _DIGEST.fullmatch(tag)]
    if digests and not {file.sha256, file.git_id} & set(digests):
        raise WrongAnswerError(f"expected the file {file.sha256 or file.git_id}, found one of {digests[0]}")
    length = told[-1].get("Content-Length", "") if told else ""
    if status == 200 and length.isdecimal() and int(length) != file.bytes:
        kind = told[-1].get("Content-Type", "no type")[:60]
        raise WrongAnswerError(f"expected a file of {file.bytes} bytes, found {length} bytes of {kind!r}")


def agrees(data: bytes, headers: Iterable[Mapping[str, str]]) -> bool:
    """Whether the ETags of an answer and of the redirects before it are of these bytes; True when none is a digest.

    The Hub's ETag is the sha256 of a large file, and the git id of a small one.
    """
    tags = [header.get(name, "") for header in headers for name in ("X-Linked-ETag", "ETag")]
    known = {tag for tag in (tag.removeprefix("W/").strip('"') for tag in tags) if _DIGEST.fullmatch(tag)}
    return not known or bool({hashlib.sha256(data).hexdigest(), git_id_of(data)} & known)
