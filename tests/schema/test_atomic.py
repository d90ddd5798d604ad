"""Whole files and folders, or none."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from open360.schema.atomic import replacing_file, replacing_folder, write_bytes


def test_a_file_appears_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a.json", b"1")
    write_bytes(tmp_path / "new" / "a.json", b"2")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]
    assert (tmp_path / "new" / "a.json").read_bytes() == b"2"
    assert (tmp_path / "new" / "a.json").stat().st_mode & 0o777 == 0o644


def test_an_error_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), replacing_file(tmp_path / "a") as partial:
        partial.write_bytes(b"half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_replaces_another_as_a_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with replacing_folder(tmp_path / "f") as partial:
            (partial / "deep").mkdir()
            (partial / "deep" / content).write_text(content)
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert [path.name for path in (tmp_path / "f" / "deep").iterdir()] == ["two"]


def test_an_error_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(tmp_path / "f") as partial:
        (partial / "a").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f" / "a").read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_process_that_dies_while_writing_leaves_the_old_content(tmp_path: Path, kind: str) -> None:
    program = textwrap.dedent(
        f"""
        import os, pathlib
        from open360.schema.atomic import replacing_{kind}
        with replacing_{kind}(pathlib.Path("target")) as partial:
            (partial / "a" if {kind == "folder"} else partial).write_text("half")
            os._exit(9)
        """
    )
    target = tmp_path / "target"
    if kind == "file":
        write_bytes(target, b"old")
    else:
        with replacing_folder(target) as partial:
            (partial / "a").write_text("old")
    done = subprocess.run([sys.executable, "-P", "-c", program], cwd=tmp_path, check=False, env=dict(os.environ))
    assert done.returncode == 9
    assert (target / "a" if kind == "folder" else target).read_text() == "old"
    assert all(path.name == "target" or path.name.endswith(".partial") for path in tmp_path.iterdir())
