"""A tokenizer that is pinned on the Hub is fetched at its commit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from open360.pipelines.tokenizer_stage import read_hub_file
from open360.release.local_hub import running_hub
from tests.e2e.conftest import must


def test_a_file_is_read_at_its_commit_and_a_missing_one_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("lab/words")
first = api.upload_file(path_or_fileobj=b"{}", path_in_repo="tokenizer.json", repo_id="lab/words").oid
api.upload_file(path_or_fileobj=b"[]", path_in_repo="tokenizer.json", repo_id="lab/words")
print(first)
"""
    with running_hub(tmp_path / "hub") as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "x"}
        commit = must(sys.executable, "-P", "-c", code, cwd=tmp_path, env=environment).strip().splitlines()[-1]
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        assert read_hub_file("lab/words", commit, "tokenizer.json") == b"{}"
        assert read_hub_file("lab/words", commit, "special_tokens_map.json") is None
