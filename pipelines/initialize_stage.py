"""Stage `initialize`: the checkpoint before the first step, which fixes the random weights for good."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Write the initial checkpoint of a run. Arguments: the run."""
    run = spec.run(arguments[0])
    determinism.enter(run.determinism or "machine")
    from open360.trainer.segment import initialize_run

    initialize_run(spec, run, root)


if __name__ == "__main__":
    sys.exit(run_stage("initialize", work, sys.argv[1:]))
