"""Locks: what is pinned, what is left open, and on which line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.release.evidence.lock_files import open_lines

PINNED = [
    b"numpy==2.0",
    b"numpy == 2.0 ; python_version >= '3.8'",
    b"torch===2.1.1+cu118",
    b"x @ https://example.org/x.whl#sha256=00ff",
    b"x @ git+https://example.org/x@1111111111111111111111111111111111111111",
    b"x==1 \\\n    --hash=sha256:00",
    b"# x>=1",
    b"",
    b"-r other.txt",
    b"--extra-index-url https://example.org",
    b"-e .",
]
OPEN = [b"numpy", b"numpy>=2", b"numpy~=2.0", b"numpy==2.*", b"x @ git+https://example.org/x@main", b"numpy!=1; x=='1'"]


@pytest.mark.parametrize("line", PINNED)
def test_a_pinned_requirement_is_no_problem(line: bytes) -> None:
    assert open_lines(line + b"\n", "requirements.txt") == []


@pytest.mark.parametrize("line", [*OPEN, b"-e git+https://example.org/x@main"])
def test_an_open_requirement_is_told_with_its_line(line: bytes) -> None:
    assert open_lines(b"# first\n" + line + b"  # why\n", "a/requirements.txt") == [(2, line.decode())]


def test_an_environment_of_conda_is_read() -> None:
    text = (
        b"dependencies:\n  - python=3.11\n  - conda-forge::numpy=1.26.0=py311_0\n  - torch\n  - pip:\n    - fire>=1\n"
    )
    assert open_lines(text, "environment.yml") == [(4, "torch"), (6, "fire>=1")]
    assert open_lines(b"&a [*a]", "environment.yml") not in ([], None)


def test_lock_files_of_resolvers_are_pinned_and_unknown_formats_are_not_judged() -> None:
    assert open_lines(b"anything", "uv.lock") == []
    assert open_lines(b"anything", "Dockerfile") is None


@given(st.binary(max_size=200), st.sampled_from(["r.txt", "e.yml"]))
def test_any_bytes_are_read(data: bytes, path: str) -> None:
    assert all(number >= 1 for number, _ in open_lines(data, path) or [])
