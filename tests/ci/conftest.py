"""A clean checkout of the project, and installing from it without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.tiny_release import build_tiny_release

SHIPPED = (
    "pyproject.toml", "README.md", "LICENSE", "schema", "release", "trainer", "pipelines",
    "action.yml", ".ci", ".pre-commit-hooks.yaml",
)  # fmt: skip


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """The files of the project that others get, and nothing that was built beside them."""
    root = tmp_path_factory.mktemp("checkout") / "open360"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SHIPPED],
        cwd=project_root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for path in filter(None, listed.split("\0")):
        if (project_root / path).is_file():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(project_root / path, root / path)
    return root


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which pip asks nobody: what open360 depends on is that of the tests."""
    home = tmp_path_factory.mktemp("ci-home")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PRE_COMMIT_HOME": str(home / "pre-commit"),
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads the value of this one as that of 'build isolation'
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A sound release."""
    return build_tiny_release(tmp_path / "release")
