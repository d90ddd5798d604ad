"""Stage `tokenizer`: train the tokenizer of a corpus, or fetch the pinned one."""

from __future__ import annotations

import sys
from pathlib import Path

from open360.pipelines.stage import run_stage
from open360.release.corpus.tokenizer import build_tokenizer
from open360.schema.layout import corpus_folder
from open360.schema.spec import ReleaseSpec

MAX_TOKENIZER_BYTES = 128 << 20


def read_hub_file(repo: str, commit: str, path: str) -> bytes | None:
    """A file of a tokenizer's repository at a commit; None when there is no such file."""
    from open360.release.hub import Hub
    from open360.release.hub_errors import HubNotFoundError
    from open360.release.hub_objects import Repo

    try:
        return Hub().read(Repo(id=repo, type="model"), commit, path, MAX_TOKENIZER_BYTES)
    except HubNotFoundError:
        return None


def work(spec: ReleaseSpec, root: Path, arguments: list[str]) -> None:
    """Fill `corpora/<corpus>/tokenizer/`. Arguments: the corpus."""
    corpus = spec.corpus(arguments[0])
    folder = root / corpus_folder(corpus.name)
    documents, out = folder / "documents.jsonl.zst", folder / "tokenizer"
    build_tokenizer(corpus, root, documents, out, read_hub_file=read_hub_file)


if __name__ == "__main__":
    sys.exit(run_stage("tokenizer", work, sys.argv[1:]))
