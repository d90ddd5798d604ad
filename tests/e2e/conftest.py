"""A small release that is really built, published and served: `open360 init`, `dvc repro`, the local Hub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command with this interpreter's programs first on the path; the caller looks at the exit code."""
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **(env or {})}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def must(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed; its output."""
    done = run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter release, built by `dvc repro`. Not to be changed: see `built`."""
    folder = tmp_path_factory.mktemp("starter") / "tiny-lm"
    must("open360", "init", folder, cwd=folder.parent)
    must("dvc", "repro", cwd=folder)
    return folder


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A copy of the built release, free to be changed."""
    shutil.copytree(built_once, tmp_path / "tiny-lm", symlinks=True)
    return tmp_path / "tiny-lm"


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """A release on a running local Hub."""

    folder: Path
    url: str
    environment: dict[str, str]
    target: str = "lab/tiny-lm"
    data: str = "lab/tiny-lm-data"
    tag: str = "v0.1.0"


@pytest.fixture(scope="session")
def published(built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishedRelease]:
    """The built starter release, published to a local Hub by the command line."""
    from open360.release.local_hub import running_hub

    with running_hub(tmp_path_factory.mktemp("hub"), ["--allow-faults"]) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "test-token"}
        must("open360", "publish", ".", "--to", "lab", cwd=built_once, env=environment)
        yield PublishedRelease(folder=built_once, url=hub.url, environment=environment)
