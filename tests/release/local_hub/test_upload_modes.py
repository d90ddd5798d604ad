"""`.gitattributes` and `.gitignore`, as git reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from open360.release.local_hub.upload_modes import DEFAULT_GITATTRIBUTES, is_binary, is_ignored, is_large_by_name

PATTERNS = [
    "*.tmp",
    "/top.txt",
    "build/",
    "a/*.log",
    "**/deep",
    "logs/**",
    "!keep.tmp",
    "x[0-9].dat",
    "q?.t",
    "# no",
    "",
]
PATHS = [
    "a.tmp", "d/a.tmp", "keep.tmp", "top.txt", "d/top.txt", "build/x", "d/build/x/y", "build", "a/x.log", "a/b/x.log",
    "deep", "p/q/deep", "deep/inside", "logs/x/y", "logs", "x1.dat", "xa.dat", "q1.t", "q.t", "# no", "plain.txt",
]  # fmt: skip


def test_files_are_ignored_as_git_ignores_them(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", "."], cwd=tmp_path, check=True)
    gitignore = "\n".join(PATTERNS)
    (tmp_path / ".gitignore").write_text(gitignore)
    asked = "\n".join(PATHS).encode()
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"], cwd=tmp_path, input=asked, capture_output=True, check=False
    )
    assert [path for path in PATHS if is_ignored(path, gitignore)] == done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("path", "large"),
    [
        ("model.safetensors", True),
        ("checkpoints/1/optimizer.pt", True),
        ("chunks/chunk_003.parquet", True),
        ("data.jsonl.zst", True),
        ("saved_model/variables/x", True),
        ("README.md", False),
        ("config.json", False),
        ("parquet", False),
    ],
)
def test_large_files_are_known_by_name(path: str, large: bool) -> None:
    assert is_large_by_name(path, DEFAULT_GITATTRIBUTES.decode()) is large


def test_the_last_matching_line_decides() -> None:
    attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\nsmall.bin !filter !diff !merge text\n"
    assert is_large_by_name("big.bin", attributes)
    assert not is_large_by_name("small.bin", attributes)


def test_text_is_told_from_binary() -> None:
    assert not is_binary("plain é text".encode())
    assert not is_binary(("é" * 300).encode()[:511]), "a sample may end inside a character"
    assert is_binary(b"\x00")
    assert is_binary(b"\xff\xfe" + b"text" * 10)
