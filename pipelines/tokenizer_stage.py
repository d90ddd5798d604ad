"""Stage `tokenizer`: train the tokenizer of a corpus, or fetch the pinned one."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.corpus.tokenizer import build_tokenizer
from open360.schema.layout import corpus_folder
from open360.schema.spec import ReleaseSpec


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Fill `corpora/<corpus>/tokenizer/`. Arguments: the corpus."""
    corpus = spec.corpus(arguments[0])
    folder = root / corpus_folder(corpus.name)
    build_tokenizer(corpus, root, folder / "documents.jsonl.zst", folder / "tokenizer")


if __name__ == "__main__":
    sys.exit(run_stage("tokenizer", work, sys.argv[1:]))
