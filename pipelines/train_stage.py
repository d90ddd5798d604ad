"""Stage `train`: one segment, from a checkpoint and a chunk to the next checkpoint and its trace."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage, show_progress
from open360.schema.schedule import segments
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Train the segment that ends in a checkpoint. Arguments: the run, the checkpoint."""
    run_name, checkpoint = arguments
    run = spec.run(run_name)
    segment = next(s for s in segments(run, spec.corpus_of(run)) if s.name == checkpoint)
    determinism.enter(run.determinism or "machine")
    from open360.trainer.segment import train_segment

    progress = show_progress(f"{checkpoint} loss")
    train_segment(spec, run, segment, root, scratch=root / ".scratch", progress=progress)


if __name__ == "__main__":
    sys.exit(run_stage("train", work, sys.argv[1:]))
