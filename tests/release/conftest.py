"""A tiny release, a local Hub, and the release published on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from open360.release.local_hub import running_hub
from open360.release.publishing import publish
from tests.support.hub_control import QUICK, HubControl
from tests.support.tiny_release import build_tiny_release


@dataclass(frozen=True, kw_only=True)
class PublishedRelease:
    """A release folder, and where it is published."""

    root: Path
    hub: HubControl
    repo: str


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a read cache of its own."""
    monkeypatch.setenv("OPEN360_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def tiny_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny release, to be left as it is."""
    return build_tiny_release(tmp_path_factory.mktemp("release") / "tiny")


@pytest.fixture
def tiny(tiny_original: Path, tmp_path: Path) -> Path:
    """A copy of the tiny release."""
    return Path(shutil.copytree(tiny_original, tmp_path / "tiny"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubControl]:
    """An empty Hub that takes orders to fail."""
    with running_hub(tmp_path / "hub", ["--allow-faults"]) as running:
        yield HubControl(running=running)


@pytest.fixture(scope="module")
def published(tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublishedRelease]:
    """The tiny release on a Hub; a test that changes the Hub uses another one."""
    with running_hub(tmp_path_factory.mktemp("published") / "hub", ["--allow-faults"]) as running:
        control = HubControl(running=running)
        publish(tiny_original, control.client(), to="lab", patience=QUICK)
        yield PublishedRelease(root=tiny_original, hub=control, repo="lab/tiny")
