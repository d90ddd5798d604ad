"""Git's object ids, so that every id of the local Hub can be checked with git itself.

Formats: gitformat-pack(5), git-hash-object(1), and the pointer files of the Git LFS specification, version 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

AUTHOR = "local-hub <local-hub@localhost>"


def _object_id(kind: str, data: bytes) -> str:
    header = f"{kind} {len(data)}\0".encode()
    return hashlib.sha1(header + data, usedforsecurity=False).hexdigest()


def blob_id(data: bytes) -> str:
    """The id of a file's content, 40 hex digits."""
    return _object_id("blob", data)


def lfs_pointer(sha256: str, size: int) -> bytes:
    """The text that git stores in the place of a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def tree_ids(blobs: Mapping[str, str]) -> dict[str, str]:
    """The ids of all folders of a commit, from path -> blob id of its files; the root is the empty string."""
    folders: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    for path, blob in blobs.items():
        folder, _, name = path.rpartition("/")
        _enter(folders, folder)[name] = ("100644", blob)
    ids: dict[str, str] = {}
    for folder in sorted(folders, key=lambda path: -path.count("/") if path else 1):
        ids[folder] = _tree_id(folders[folder])
        if folder:
            parent, _, name = folder.rpartition("/")
            folders[parent][name] = ("40000", ids[folder])
    return ids


def _enter(folders: dict[str, dict[str, tuple[str, str]]], folder: str) -> dict[str, tuple[str, str]]:
    if folder not in folders:
        folders[folder] = {}
        parent, _, _ = folder.rpartition("/")
        _enter(folders, parent)
    return folders[folder]


def _tree_id(entries: Mapping[str, tuple[str, str]]) -> str:
    # Git sorts a folder as if its name ended in a slash.
    order = sorted(entries, key=lambda name: (name + "/" if entries[name][0] == "40000" else name).encode())
    data = b"".join(f"{entries[name][0]} {name}".encode() + b"\0" + bytes.fromhex(entries[name][1]) for name in order)
    return _object_id("tree", data)


def commit_id(*, tree: str, parent: str | None, seconds: int, text: str) -> str:
    """The id of a commit: `seconds` since 1970 (UTC), `text` the whole message."""
    lines = [f"tree {tree}"]
    if parent is not None:
        lines.append(f"parent {parent}")
    lines += [f"author {AUTHOR} {seconds} +0000", f"committer {AUTHOR} {seconds} +0000", "", text]
    return _object_id("commit", ("\n".join(lines) + "\n").encode())
