"""Stage `pack`: fix the training order of a run and write it as chunks with step tables."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.corpus.packing import pack_run
from open360.schema.layout import run_folder
from open360.schema.spec import ReleaseSpec


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Write `runs/<run>/chunks/`, `runs/<run>/steps/` and `runs/<run>/packing.json`. Arguments: the run."""
    run = spec.run(arguments[0])
    folder = root / run_folder(run.name)
    pack_run(spec, run, root, folder / "chunks", folder / "steps")


if __name__ == "__main__":
    sys.exit(run_stage("pack", work, sys.argv[1:]))
