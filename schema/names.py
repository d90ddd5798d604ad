"""Constrained strings and numbers: what cannot be written here cannot exist in a release."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

MAX_PATH_CHARS = 1024
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"  # of our names, and of the Hub's namespaces and repositories
MAX_FILE_BYTES = 1 << 50  # 1 PiB: larger claims are mistakes or attacks


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _check_relative_path(path: str) -> str:
    bad = (
        not path
        or len(path) > MAX_PATH_CHARS
        or path.startswith(("/", "~"))
        or "\\" in path
        or re.match(r"^[A-Za-z]:", path) is not None
        or _CONTROL.search(path) is not None
        or any(part in ("", ".", "..") for part in path.split("/"))
    )
    if bad:
        raise PydanticCustomError(
            "path_leaves_root",
            "'{path}' is not a relative POSIX path inside the release (no '..', no '.', no leading '/', no '\\')",
            {"path": path[:200]},
        )
    return path


def _check_revision(revision: str) -> str:
    if ".." in revision or "//" in revision or revision.endswith(("/", ".", ".lock")):
        raise PydanticCustomError(
            "revision_name",
            "'{revision}' is no name of a branch, tag or commit (git check-ref-format)",
            {"revision": revision},
        )
    return revision


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
GitCommit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Swhid = Annotated[str, StringConstraints(pattern=r"^swh:1:(cnt|dir|rev|rel|snp):[0-9a-f]{40}(;[a-z]+=[^;]+)*$")]
RepoId = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}/{NAME_PATTERN}$")]
Revision = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}$"), AfterValidator(_check_revision)
]
RelPath = Annotated[str, AfterValidator(_check_relative_path)]
Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
SemVer = Annotated[
    str,
    StringConstraints(pattern=r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"),
]
# Whether a licence id exists is a rule's business (a draft must load); only its alphabet is fixed here.
License = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+() -]{1,200}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]{1,2000}$")]
PypiPin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+$")]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
Positive = Annotated[int, Field(ge=1, le=1 << 62)]
Bytes = Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
