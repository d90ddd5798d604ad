"""Fixtures of the trainer's tests. Torch runs in class `machine` here; class `portable` gets processes of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from open360.schema.spec import ReleaseSpec
from tests.trainer.tiny_run import build, build_inputs, tiny_spec


@pytest.fixture
def spec() -> ReleaseSpec:
    """The spec of the tiny release."""
    return tiny_spec()


@pytest.fixture
def release(tmp_path: Path, spec: ReleaseSpec) -> Path:
    """A folder with the inputs of the tiny release, not trained yet."""
    return build_inputs(tmp_path / "release", spec)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny release, trained to its end. Not to be written to."""
    return build(tmp_path_factory.mktemp("trained") / "release", tiny_spec())


@pytest.fixture
def half_trained(tmp_path: Path, trained: Path) -> Path:
    """A copy of the trained release without its last two segments."""
    import shutil

    folder = tmp_path / "half"
    shutil.copytree(trained, folder)
    for name in ("ckpt_001", "ckpt_002"):
        shutil.rmtree(folder / "runs/tiny/checkpoints" / name)
        (folder / f"runs/tiny/traces/{name}.jsonl").unlink()
    return folder
