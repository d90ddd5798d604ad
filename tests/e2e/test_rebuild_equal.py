"""The same build twice, under hostile conditions, gives the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import BIN, must

HOSTILE = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}


def _new_release(folder: Path) -> Path:
    must("open360", "init", folder, cwd=folder.parent)
    return folder


def _digests(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    found = {}
    for run in manifest["runs"]:
        for checkpoint in run["checkpoints"]:
            found[checkpoint["name"]] = json.dumps([checkpoint["tensors"], checkpoint["files"]], sort_keys=True)
    return found


@pytest.mark.long
def test_two_builds_in_different_folders_are_equal_even_under_hostile_variables(
    built_once: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere" / "deeper").mkdir(parents=True)
    other = _new_release(tmp_path / "elsewhere" / "deeper" / "tiny-lm")
    must("dvc", "repro", cwd=other, env=HOSTILE)
    assert _digests(other) == _digests(built_once)
    assert (other / "dvc.lock").read_bytes() == (built_once / "dvc.lock").read_bytes()
    assert (other / "manifest.json").read_bytes() == (built_once / "manifest.json").read_bytes()


@pytest.mark.long
def test_a_killed_build_goes_on_and_ends_equal(built_once: Path, tmp_path: Path) -> None:
    folder = _new_release(tmp_path / "tiny-lm")
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    chance = random.Random(360)
    for _ in range(4):
        build = subprocess.Popen(
            ["dvc", "repro"], cwd=folder, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + chance.uniform(6, 25)
        while build.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if build.poll() is None:
            os.killpg(build.pid, signal.SIGKILL)
        build.wait()
        # DVC's lock files of the dead process stay behind, as after a power cut.
    must("dvc", "repro", cwd=folder)
    assert _digests(folder) == _digests(built_once)
    assert not list(folder.rglob("*.partial"))
