"""Shared by all tests: homes in temporary folders, no colours, no network but this machine's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(autouse=True, scope="session")
def quiet_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every process that a test starts is offline, colourless, and has a home of its own."""
    home = tmp_path_factory.mktemp("home")
    changes = {
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": "test-token",
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "DVC_NO_ANALYTICS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    before = dict(os.environ)
    os.environ.update(changes)
    os.environ.pop("HF_ENDPOINT", None)
    yield
    os.environ.clear()
    os.environ.update(before)
