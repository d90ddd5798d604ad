"""Run every benchmark and write docs/benchmarks.md: `make bench`. Each program also runs alone."""

from __future__ import annotations

import datetime
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
PROGRAMS = {
    "pack": "Packing: documents to finished chunks, against tokenising alone",
    "hash": "Hashing, against `openssl dgst -sha256`",
    "train": "Training, against a bare torch loop over the same model and settings",
    "pull": "Bytes of a one-batch pull, against its stored row group",
    "memory": "Peak memory at two input sizes",
    "validate": "Listing a release of 36, 360 and 3,600 checkpoints on a Hub",
}
INTRODUCTION = """# Benchmarks

Written by `make bench`. Every figure is a ratio of two programs run side by side in one process or one after the other
in interleaved pairs; the median of at least seven pairs is given with the spread. A limit that lies inside the spread
decides nothing: *inconclusive*. No test asserts a time.
"""


def processor() -> str:
    """Name of the processor, as the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    """Run all programs; the exit code is that of the first that failed."""
    sections = [INTRODUCTION]
    for name, title in PROGRAMS.items():
        command = [sys.executable, "-P", str(HERE / f"{name}.py")]
        sys.stderr.write(f"bench/{name}.py\n")
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            return done.returncode
        sections.append(f"## {title}\n\n`python -P bench/{name}.py`\n\n{done.stdout.strip()}\n")
    today = datetime.datetime.now(tz=datetime.UTC).date()
    sections.append(f"Last run: {today}, {processor()}, Python {platform.python_version()}.\n")
    PAGE.write_text("\n".join(sections))
    sys.stdout.write(PAGE.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
