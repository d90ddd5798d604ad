"""A data set on a Hub as a source: the rows of one commit, whatever comes later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from open360.release.corpus.document_file import parse_document, read_lines
from open360.release.corpus.documents import build_documents
from open360.release.corpus.source_index import SourceError
from open360.release.corpus.sources import fetch_sources
from open360.release.local_hub import running_hub
from open360.schema.corpus import Corpus, HubPin, Source

UPLOAD = """
import json, sys
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("org/words", repo_type="dataset", exist_ok=True)
info = api.upload_file(
    path_or_fileobj=sys.argv[1].encode(), path_in_repo="train.jsonl", repo_id="org/words", repo_type="dataset"
)
print(json.dumps(info.oid))
"""


def upload(texts: list[str]) -> str:
    """Commit the texts as the data set; the commit."""
    content = "".join(json.dumps({"text": text, "number": i}) + "\n" for i, text in enumerate(texts))
    done = subprocess.run([sys.executable, "-P", "-c", UPLOAD, content], capture_output=True, text=True, check=True)
    commit: str = json.loads(done.stdout)
    return commit


@pytest.mark.long
def test_a_data_set_is_read_at_its_commit_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "sources"
    with running_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        first = upload(["one", "two", "drei ß"])
        upload(["something else"])
        pin = HubPin(repo="org/words", revision=first)
        source = Source(name="web", hub=pin)
        corpus = Corpus(name="words", sources=(source, Source(name="again", hub=pin)), deduplicate="none")
        fetch_sources(corpus, tmp_path, out)
        with pytest.raises(SourceError, match="expected text in column 'body'"):
            bad = HubPin(repo="org/words", revision=first, text="body")
            fetch_sources(Corpus(name="words", sources=(Source(name="web", hub=bad),)), tmp_path, tmp_path / "bad")
    fetch_sources(corpus, tmp_path, out)  # the Hub is gone, the download is there
    build_documents(corpus, out, tmp_path / "built")
    lines = [line for batch in read_lines(tmp_path / "built" / "documents.jsonl.zst") for line in batch]
    found = [parse_document(line, "documents") for line in lines]
    assert [d.id for d in found] == ["web/0", "web/1", "web/2", "again/0", "again/1", "again/2"]
    assert [d.text for d in found[:3]] == ["one", "two", "drei ß"]
    assert os.environ["HF_ENDPOINT"] == hub.url
