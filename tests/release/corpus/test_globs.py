"""Globs of sources."""

from __future__ import annotations

import pytest

from open360.release.corpus.globs import matches


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("docs/**/*.txt", "docs/a.txt", True),
        ("docs/**/*.txt", "docs/x/y/a.txt", True),
        ("docs/**/*.txt", "other/docs/a.txt", False),
        ("docs/*.txt", "docs/x/a.txt", False),
        ("**/*", "a", True),
        ("**/*", "a/b/c", True),
        ("docs/**", "docs/x/y", True),
        ("a?.py", "ab.py", True),
        ("a?.py", "a/.py", False),
        ("[ab].py", "b.py", True),
        ("[!ab].py", "b.py", False),
        ("[!a]b.py", "/b.py", False),
        ("a[]b]", "a]", True),
        ("[^a]", "^", True),
        ("a+(b).c", "a+(b).c", True),
        ("a+(b).c", "aab.c", False),
        ("a[b", "a[b", True),
        ("*.txt", "a.txt\n", False),
    ],
)
def test_a_glob_matches_whole_paths_and_stays_in_its_folder(glob: str, path: str, expected: bool) -> None:
    assert matches(path, [glob]) is expected


def test_what_is_excluded_is_not_taken() -> None:
    assert matches("a/b.py", ["**/*.py"], ["b/**"])
    assert not matches("b/a.py", ["**/*.py"], ["b/**"])
