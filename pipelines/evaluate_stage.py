"""Stage `evaluate`: held-out loss, perplexity and bits per byte of one checkpoint, by domain."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.schema.atomic import write_bytes
from open360.schema.layout import checkpoint_folder, corpus_folder, evaluation_path
from open360.schema.serialization import canonical_json
from open360.schema.spec import ReleaseSpec
from open360.trainer import determinism


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Write the evaluation record of a checkpoint. Arguments: the run, the checkpoint."""
    run_name, checkpoint = arguments
    run = spec.run(run_name)
    corpus = spec.corpus(run.corpus or "")
    determinism.enter(run.determinism or "machine")
    from open360.trainer.evaluation import evaluate_checkpoint

    record = evaluate_checkpoint(
        spec,
        run,
        root / checkpoint_folder(run_name, checkpoint),
        root / corpus_folder(corpus.name),
        run.determinism or "machine",
    )
    write_bytes(root / evaluation_path(run_name, checkpoint), canonical_json(record))


if __name__ == "__main__":
    sys.exit(run_stage("evaluate", work, sys.argv[1:]))
