"""The wheel holds what the folders hold, and works without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

FOLDERS = ("schema", "release", "trainer", "pipelines")


def _declared(project_root: Path) -> set[str]:
    return set(tomllib.loads((project_root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])


def test_every_folder_with_code_is_a_declared_package(project_root: Path) -> None:
    found = set()
    for folder in FOLDERS:
        for path in [project_root / folder, *(project_root / folder).rglob("*")]:
            if path.is_dir() and (path / "__init__.py").exists():
                found.add("open360." + ".".join(path.relative_to(project_root).parts))
    assert found == _declared(project_root)


def _files(project_root: Path, *paths: str) -> list[str]:
    """Files of the checkout below `paths` that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths],
        cwd=project_root, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    return [path for path in listed if (project_root / path).exists()]


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, copy = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("copy")
    # A copy: in the checkout setuptools leaves `build/`, and packs what an earlier build left there.
    for path in _files(project_root, *FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_root / path, copy / path)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(copy)]
    subprocess.run(command, check=True, cwd=out)
    return next(out.glob("open360-*.whl"))


def test_the_wheel_holds_every_file_of_the_packages_and_no_generic_top_level_name(
    project_root: Path, wheel: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = {f"open360/{path}" for path in _files(project_root, *FOLDERS)} - names
    assert not missing
    assert {name.split("/")[0] for name in names} - {"open360"} == {
        name.split("/")[0] for name in names if ".dist-info/" in name
    }


@pytest.mark.long
def test_an_empty_venv_without_torch_validates_from_the_wheel(project_root: Path, wheel: Path, tmp_path: Path) -> None:
    from tests.support.tiny_release import build_tiny_release

    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    lock = project_root / "constraints.txt"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--constraint", lock, wheel], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
    folder = build_tiny_release(tmp_path / "tiny")
    command = [environment / "bin" / "open360", "validate", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "needs open360[train]" in done.stdout
