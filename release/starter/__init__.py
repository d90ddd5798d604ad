"""The small release that `open360 init` writes: spec, dvc.yaml, sample text; `dvc repro` works on it at once."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from open360.schema.errors import Open360Error
from open360.schema.names import MAX_PATH_CHARS

NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,60}$")
BUILT = ("chunks", "steps", "packing.json", "checkpoints", "traces")
IGNORED = "".join(
    ["/corpora/\n", *(f"/runs/*/{name}\n" for name in BUILT), "/records/\n", "/.scratch/\n", "/dvc_plots/\n"]
)


class StarterError(Open360Error):
    """The folder for a new release cannot be used."""


def write_starter(folder: Path) -> list[str]:
    """Write a small release into `folder`, which is new or empty, and set up git and DVC there.

    Returns the files written, relative to the folder. Raises StarterError when the folder is in use, its name cannot
    name a release, or git or DVC is missing.
    """
    name = folder.resolve().name.lower()
    if not NAME.match(name) or len(str(folder)) > MAX_PATH_CHARS:
        raise StarterError(
            f"{folder}: '{name}' cannot name a release; use letters, digits, '.', '_', '-' and run 'open360 init' again"
        )
    if folder.exists() and any(folder.iterdir()):
        raise StarterError(f"{folder}: expected a new or empty folder, found files in it; choose another one")
    for program in ("git", "dvc"):
        if shutil.which(program) is None:
            raise StarterError(
                f"'{program}' is not on the path; run \"pip install 'open360[pipeline,train]'\" and try again"
            )
    was_there = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _fill(folder, name)
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not was_there:
            folder.rmdir()
        raise
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and not {".git", "tmp"} & set(p.relative_to(folder).parts)
    )


def _fill(folder: Path, name: str) -> None:
    source = resources.files("open360.release.starter") / "files"
    for path, text in _texts(source, ""):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("@NAME@", name), encoding="utf-8")
    (folder / ".gitignore").write_text(IGNORED)
    (folder / "constraints.txt").write_text(installed_versions())
    _set_up(folder)


def _texts(folder: Traversable, prefix: str) -> list[tuple[str, str]]:
    found = []
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            found += _texts(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_text(encoding="utf-8")))
    return found


def installed_versions() -> str:
    """The environment as a constraints file: one pinned distribution a line."""
    pins = {
        dist.metadata["Name"].lower(): dist.version.split("+")[0]
        for dist in importlib.metadata.distributions()
        if dist.metadata["Name"] and dist.metadata["Name"].lower() != "open360"
    }
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def _set_up(folder: Path) -> None:
    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StarterError(f"{folder}: '{' '.join(command)}' failed: {done.stderr.strip()[-400:]}")

    inside = subprocess.run(["git", "rev-parse", "--git-dir"], cwd=folder, capture_output=True, check=False)
    if inside.returncode == 0:
        run("dvc", "init", "--quiet", "--subdir")
    else:
        run("git", "init", "--quiet")
        run("dvc", "init", "--quiet")
    run("dvc", "config", "core.analytics", "false")
    run("dvc", "config", "core.check_update", "false")
    run("dvc", "config", "cache.type", "reflink,hardlink,copy")
    (folder / ".dvcignore").write_text("__pycache__/\n/records/\n/.scratch/\n/dvc_plots/\n")
    run(sys.executable, "-P", "-m", "open360.pipelines.plan")
