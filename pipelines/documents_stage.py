"""Stage `documents`: take the documents out of the sources, drop duplicates, set the held-out ones apart."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.corpus.documents import build_documents
from open360.schema.layout import corpus_folder
from open360.schema.spec import ReleaseSpec


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Write documents, held-out documents and their counts. Arguments: the corpus."""
    corpus = spec.corpus(arguments[0])
    folder = root / corpus_folder(corpus.name)
    build_documents(corpus, folder / "sources", folder)


if __name__ == "__main__":
    sys.exit(run_stage("documents", work, sys.argv[1:]))
