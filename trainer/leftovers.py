"""What a killed process left of its writing beside an output."""

from __future__ import annotations

import shutil
from pathlib import Path


def discard_leftovers(target: Path) -> None:
    """Remove the temporary names of `target` that `open360.schema.atomic` gives, left by a process that was killed."""
    for pattern in (f".{target.name}.*.partial", f".{target.name}.*.old"):
        for path in target.parent.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
