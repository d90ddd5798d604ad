"""Records: what was observed while a checkpoint was made, and varies: profile, host, times, speed, state of the code.

They lie under `records/`, outside of all outputs.
"""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path
from typing import Any

from open360.schema.atomic import write_bytes
from open360.schema.serialization import canonical_json
from open360.trainer.determinism import observed_profile


def record_path(run: str, checkpoint: str) -> str:
    """The record of a checkpoint, relative to the release folder."""
    return f"records/{run}/{checkpoint}.json"


def now() -> str:
    """The time of day, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def write_record(root: Path, run: str, checkpoint: str, observed: dict[str, Any]) -> Path:
    """Write the record of a checkpoint: `observed`, with the numeric profile, the host and the code as they are."""
    path = root / record_path(run, checkpoint)
    record = {
        "run": run,
        "checkpoint": checkpoint,
        "profile": observed_profile(),
        "host": platform.node(),
        "code": code_state(root),
        **observed,
    }
    write_bytes(path, canonical_json(record))
    return path


def code_state(root: Path) -> dict[str, Any] | None:
    """Commit of the release folder and whether files differ from it; None when the folder is no git repository."""
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None
    status = _git(root, "status", "--porcelain")
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    return {"commit": commit, "dirty": bool(status) if status is not None else None}


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
