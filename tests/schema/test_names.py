"""Constrained strings: what cannot be written here cannot exist."""

from __future__ import annotations

import os.path
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from open360.schema.names import (
    GitCommit,
    License,
    Name,
    PypiPin,
    RelPath,
    RepoId,
    Revision,
    SemVer,
    Sha256,
    Swhid,
    Url,
)
from tests.schema.strategies import paths

rel_path = TypeAdapter(RelPath)


def _accepts(kind: Any, text: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b c", "~", "C:", "\\", "a\\b", "\x00", "\n", "é"]), max_size=6))
def test_no_accepted_path_leaves_the_root_on_any_system(parts: list[str]) -> None:
    path = "/".join(parts)
    if not _accepts(RelPath, path):
        return
    inside = os.path.normpath(f"/root/{path}")
    assert inside == f"/root/{path}"
    assert not PurePosixPath(path).is_absolute()
    windows = PureWindowsPath(path)
    assert not windows.drive
    assert not windows.root
    assert ".." not in windows.parts


@given(st.text(max_size=20))
def test_any_accepted_text_is_a_plain_path_below_the_root(path: str) -> None:
    if _accepts(RelPath, path):
        assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
        assert "\x00" not in path


@given(paths)
def test_plain_paths_are_accepted_unchanged(path: str) -> None:
    assert rel_path.validate_python(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/etc/passwd", "../x", "a/../b", "a/..", "..", ".", "./a", "a/.", "a//b", "a/", "~", "~/x", "C:/x",
        "c:x", "a\\b", "\\\\host\\x", "a\x00b", "a\nb", "a\x7fb", "x" * 1025,
    ],
)  # fmt: skip
def test_paths_that_leave_the_root_or_hide_something_are_refused(path: str) -> None:
    assert not _accepts(RelPath, path)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Sha256, ["0" * 64], ["0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"]),
        (GitCommit, ["a1" * 20], ["a1" * 19, "a1" * 32, "main"]),
        (Swhid, [f"swh:1:rev:{'0' * 40}", f"swh:1:dir:{'a' * 40};origin=https://x"], ["swh:1:x", "swh:1:rev:0"]),
        (RepoId, ["a/b", "EleutherAI/pythia-1.4b", "a_b/c"], ["a", "a/b/c", "/b", "a/", "a b/c", "../b", "a/.."]),
        (Revision, ["main", "refs/pr/1", "v1.0.0"], ["", "-x", "a b", "a\n", "a..b", "a//b", "a/", "a.lock"]),
        (Name, ["ckpt_000", "no", "008", "a.b"], ["", ".hidden", "-x", "a/b", "a b", "x" * 97, "a\n"]),
        (SemVer, ["0.0.0", "1.2.3-rc.1+b.5"], ["1", "1.2", "v1.2.3", "01.2.3", "1.2.3 "]),
        (License, ["MIT", "Apache-2.0 OR MIT", "(A AND B)"], ["", "MIT\n", "MIT;", "x" * 201]),
        (Url, ["https://x", "http://a.b/c?d=e"], ["ftp://x", "file:///etc", "javascript:x", "https://", "https://a b"]),
        (PypiPin, ["a==1", "django==5.2.8", "a-b==1.0+cu1"], ["django", "django>=5", "a==", "a==1 ; x", "a==1\n"]),
    ],
)  # fmt: skip
def test_each_kind_of_name_takes_its_own_and_nothing_else(kind: Any, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not _accepts(kind, text)] == []
    assert [text for text in bad if _accepts(kind, text)] == []
    assert not _accepts(kind, 5)
    assert not _accepts(kind, None)
