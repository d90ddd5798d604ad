"""Files that pin an environment: which of their lines leave a version open."""

from __future__ import annotations

import re
from collections.abc import Iterator

from open360.schema.errors import SpecError
from open360.schema.serialization import parse_yaml

MAX_LOCK_BYTES = 8 << 20
RESOLVED = (".lock", ".json")  # written by a resolver: pinned by their form

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"--hash[= ]\S+")
_EXACT = re.compile(r"===?\s*([A-Za-z0-9][^\s,;#)]*)")
_COMMIT = re.compile(r"@\s*(git|hg)\+\S+@[0-9a-f]{40}\b")
_DIGEST = re.compile(r"@\s*\S+[#&?](sha256|sha384|sha512)=[0-9a-f]+")
_CONDA = re.compile(r"[A-Za-z0-9_.:/-]+\s*={1,2}\s*[A-Za-z0-9][A-Za-z0-9.!+_-]*(=\S+)?")


def open_lines(data: bytes, path: str) -> list[tuple[int, str]] | None:
    """`(line number, text)` of every requirement that is not pinned; None when the format is not known.

    Known are requirement files of pip (with `==`, a digest or a commit), environments of conda, and lock files that a
    resolver wrote. Options of pip and the project itself (`-e .`) are no requirements.
    """
    if path.endswith(RESOLVED):
        return []
    if path.endswith((".yml", ".yaml")):
        return list(_open_in_conda(data, path))
    if path.endswith(".txt"):
        return list(_open_in_pip(data))
    return None


def _open_in_pip(data: bytes) -> Iterator[tuple[int, str]]:
    joined = ""
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        joined += _COMMENT.sub("", line)
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        text, joined = joined.strip(), ""
        if text and not text.startswith("-") and not _is_pinned(text):
            yield number, text
        if text.startswith(("-e", "--editable")) and "+" in text and not _COMMIT.search(text.replace(" ", " @ ", 1)):
            yield number, text


def _is_pinned(requirement: str) -> bool:
    if _HASH.search(requirement) or _COMMIT.search(requirement) or _DIGEST.search(requirement):
        return True
    exact = _EXACT.search(requirement.split(";", 1)[0])
    return exact is not None and not exact[1].endswith("*")


def _open_in_conda(data: bytes, path: str) -> Iterator[tuple[int, str]]:
    try:
        plain, positions = parse_yaml(data, path, MAX_LOCK_BYTES)
    except SpecError as error:
        yield error.problems[0].line or 1, "not readable as YAML"
        return
    entries = plain.get("dependencies") if isinstance(plain, dict) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else []):
        pointer = f"/dependencies/{index}"
        if isinstance(entry, str) and not _CONDA.fullmatch(entry.strip()):
            yield positions[pointer][0], entry
        inner = entry.get("pip") if isinstance(entry, dict) else None
        for place, text in enumerate(inner if isinstance(inner, list) else []):
            if isinstance(text, str) and not text.startswith("-") and not _is_pinned(text):
                yield positions[f"{pointer}/pip/{place}"][0], text
