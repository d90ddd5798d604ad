"""Stage `sources`: download what the sources of a corpus pin. Arguments: the corpus."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.corpus.sources import fetch_sources
from open360.schema.layout import corpus_folder
from open360.schema.spec import ReleaseSpec


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Fill `corpora/<corpus>/sources/`."""
    corpus = spec.corpus(arguments[0])
    fetch_sources(corpus, root, root / corpus_folder(corpus.name) / "sources")


if __name__ == "__main__":
    sys.exit(run_stage("sources", work, sys.argv[1:]))
