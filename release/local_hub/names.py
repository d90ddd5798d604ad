"""Names that a client may choose: repositories, branches, tags, paths. Checked before they touch the disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from open360.release.local_hub.refusals import RefusalError

Kind = Literal["models", "datasets", "spaces"]

KINDS: tuple[Kind, ...] = ("models", "datasets", "spaces")
RESERVED_NAMESPACES = frozenset({"api", "datasets", "spaces", "models", "xet", ".open360"})
MAX_NAME = 96
MAX_PATH_BYTES = 1024

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_BAD_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[./-]|[./]$")
_BAD_PATH = re.compile(r"[\x00-\x1f\x7f\\]")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, order=True)
class RepoId:
    """One repository of the Hub: `kind` is the word in API paths (`models`), not in payloads (`model`)."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def web_path(self) -> str:
        """The path of the repository's page: models have no prefix."""
        prefix = "" if self.kind == "models" else f"{self.kind}/"
        return f"{prefix}{self.namespace}/{self.name}"


def parse_repo(kind: str, namespace: str, name: str) -> RepoId:
    """Make a `RepoId` of parts of a URL or payload; raise `RefusalError` (400) for a name that the Hub would refuse."""
    for known in KINDS:
        if kind == known:
            for part in (namespace, name):
                if not _is_name(part):
                    raise RefusalError(400, f"Invalid repository name {namespace}/{name}: {part!r} is not allowed")
            if namespace in RESERVED_NAMESPACES:
                raise RefusalError(400, f"Invalid repository name {namespace}/{name}: the namespace is reserved")
            return RepoId(kind=known, namespace=namespace, name=name)
    raise RefusalError(400, f"Invalid repository type {kind!r}: expected one of {', '.join(KINDS)}")


def _is_name(part: str) -> bool:
    ill = ".." in part or "--" in part or part.endswith((".git", ".", "-"))
    return len(part) <= MAX_NAME and _NAME.fullmatch(part) is not None and not ill


def check_ref_name(name: str) -> str:
    """Return a branch or tag name as given; raise `RefusalError` (400) where git would refuse it."""
    if not name or len(name) > 255 or _BAD_REF.search(name):
        raise RefusalError(400, f"Invalid ref name {name!r}")
    if _COMMIT.fullmatch(name) and len(name) == 40:
        raise RefusalError(400, f"Invalid ref name {name!r}: it looks like a commit id")
    return name


def check_path(path: object) -> str:
    """Return a file's path inside a repository; raise `RefusalError` (400) for one that leaves it."""
    if not isinstance(path, str) or not path or len(path.encode()) > MAX_PATH_BYTES:
        raise RefusalError(400, f"Invalid path {path!r}: expected 1 to {MAX_PATH_BYTES} bytes")
    parts = path.split("/")
    if _BAD_PATH.search(path) or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise RefusalError(400, f"Invalid path {path!r}: it must be relative and stay inside the repository")
    return path


def is_commit_prefix(text: str) -> bool:
    """Whether a revision could be a commit id or the beginning of one (7 to 40 hex digits)."""
    return _COMMIT.fullmatch(text) is not None


def check_sha256(text: object) -> str:
    """Return a sha256 in lowercase hex; raise `RefusalError` (422) for anything else."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise RefusalError(422, f"Invalid oid {text!r}: expected a sha256 of 64 lowercase hex digits")
    return text
