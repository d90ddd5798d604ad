"""Which commit of which code a release folder holds, as git tells it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

GIT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class SourceCode:
    """The commit of a release folder, and whether files differ from it. All None where git knows nothing of it."""

    commit: str | None
    dirty: bool | None

    @property
    def swhid(self) -> str | None:
        """The commit as a Software Hash Identifier (ISO/IEC 18670)."""
        return f"swh:1:rev:{self.commit}" if self.commit is not None else None


def source_code_of(root: Path) -> SourceCode:
    """The commit that the release folder `root` is at. Untracked files count as differences, ignored ones do not."""
    commit = _git(root, "rev-parse", "--verify", "HEAD^{commit}")
    if commit is None or re.fullmatch(r"[0-9a-f]{40}", commit.strip()) is None:
        return SourceCode(commit=None, dirty=None)
    status = _git(root, "status", "--porcelain", "--untracked-files=normal")
    return SourceCode(commit=commit.strip(), dirty=bool(status.strip()) if status is not None else None)


def _git(root: Path, *arguments: str) -> str | None:
    # A folder of somebody else's must not start programs through its git configuration.
    command = ["git", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-C", str(root), *arguments]
    outside = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_SECONDS, env={**outside, "LC_ALL": "C"}, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
