"""Ids that git itself agrees with."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.local_hub import git_objects

names = st.text(st.sampled_from("ab.-_0é"), min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=3).map("/".join)


def git(folder: Path, *arguments: str, data: bytes = b"") -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


def git_tree(folder: Path, files: dict[str, str]) -> str:
    git(folder, "init", "--quiet", ".")
    git(folder, "read-tree", "--empty")
    lines = "".join(f"100644 {blob}\t{path}\0" for path, blob in files.items())
    git(folder, "update-index", "-z", "--index-info", data=lines.encode())
    return git(folder, "write-tree", "--missing-ok")


def no_file_is_a_folder(files: dict[str, bytes]) -> bool:
    return not any(path.startswith(f"{other}/") for path in files for other in files)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=20), min_size=1, max_size=8).filter(no_file_is_a_folder))
def test_trees_have_the_ids_that_git_gives_them(tmp_path_factory: object, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("git")  # type: ignore[attr-defined]
    blobs = {path: git_objects.blob_id(data) for path, data in files.items()}
    assert git_objects.tree_ids(blobs)[""] == git_tree(folder, blobs)


def test_a_commit_has_the_id_that_git_gives_it(tmp_path: Path) -> None:
    tree = git_tree(tmp_path, {"a/b.txt": git_objects.blob_id(b"text")})
    seconds, name, email = 1_700_000_000, "local-hub", "local-hub@localhost"
    text = (
        f"tree {tree}\nauthor {name} <{email}> {seconds} +0000\ncommitter {name} <{email}> {seconds} +0000\n\n"
        "Title\n\nDescription é\n"
    )
    expected = git(tmp_path, "hash-object", "-t", "commit", "--stdin", data=text.encode())
    found = git_objects.commit_id(tree=tree, parent=None, seconds=seconds, text="Title\n\nDescription é")
    assert found == expected


def test_an_empty_repository_has_gits_empty_tree() -> None:
    assert git_objects.tree_ids({}) == {"": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}
