"""The pre-commit hook: by hand as the tool runs it, and by the tool itself where it is installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from open360.schema.serialization import parse_yaml


@pytest.fixture(scope="module")
def hook(project_root: Path) -> dict[str, Any]:
    plain, _ = parse_yaml((project_root / ".pre-commit-hooks.yaml").read_bytes(), ".pre-commit-hooks.yaml")
    (only,) = plain
    assert isinstance(only, dict)
    return only


def spoiled(folder: Path) -> None:
    spec = folder / "release.yaml"
    spec.write_text(spec.read_text().replace("objective: pretrain", "objective: guess", 1))


def by_hand(hook: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [*shlex.split(hook["entry"]), *hook["args"]]
    return subprocess.run(words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)


def test_the_hook_looks_at_the_two_documents_of_a_release_wherever_they_are(hook: dict[str, Any]) -> None:
    files = re.compile(hook["files"])
    assert all(files.search(path) for path in ("release.yaml", "manifest.json", "models/one/release.yaml"))
    assert not any(files.search(path) for path in ("my-release.yaml", "release.yaml.bak", "manifest.jsonl"))
    assert hook["pass_filenames"] is False


def test_the_hook_passes_a_sound_release_and_stops_a_broken_one(hook: dict[str, Any], release: Path) -> None:
    assert by_hand(hook, release).returncode == 0
    spoiled(release)
    result = by_hand(hook, release)
    assert result.returncode == 2
    assert "SPC001" in result.stdout


@pytest.mark.skipif(importlib.util.find_spec("pre_commit") is None, reason="pre-commit is not installed")
def test_the_tool_itself_installs_and_runs_the_hook(
    checkout: Path, offline: dict[str, str], release: Path, tmp_path: Path
) -> None:
    def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=folder, env=offline, capture_output=True, text=True, timeout=300)

    def commit(folder: Path) -> str:
        for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all", "--no-verify")):
            assert run(folder, "git", *words).returncode == 0
        return run(folder, "git", "rev-parse", "HEAD").stdout.strip()

    source = Path(shutil.copytree(checkout, tmp_path / "open360"))
    revision = commit(source)
    project = tmp_path / "project"
    project.mkdir()
    for name in ("release.yaml", "manifest.json"):
        shutil.copy(release / name, project)
    text = f"repos: [{{repo: '{source}', rev: {revision}, hooks: [{{id: open360-validate}}]}}]\n"
    (project / ".pre-commit-config.yaml").write_text(text)
    commit(project)

    tool = (sys.executable, "-m", "pre_commit", "run", "--all-files")
    good = run(project, *tool)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Passed" in good.stdout
    spoiled(project)
    bad = run(project, *tool)
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "SPC001" in bad.stdout
