"""Unmodified clients read a published release from the local Hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.conftest import PublishedRelease, must, run


def _python(code: str, release: PublishedRelease, tmp_path: Path) -> str:
    environment = {**release.environment, "HF_HOME": str(tmp_path / "hf")}
    done = run(sys.executable, "-P", "-c", code, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_from_pretrained_loads_a_checkpoint_by_its_revision(published: PublishedRelease, tmp_path: Path) -> None:
    code = f"""
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({published.target!r}, revision="ckpt_001")
tokenizer = AutoTokenizer.from_pretrained({published.target!r}, revision="ckpt_001")
ids = tokenizer("A checkpoint is", return_tensors="pt")["input_ids"]
print(float(model(ids).logits.sum()), tokenizer.decode(ids[0]))
"""
    local = code.replace(repr(published.target), repr(str(published.folder / "runs/tiny-lm/checkpoints/ckpt_001")))
    local = local.replace(', revision="ckpt_001"', "")
    remote_answer = _python(code, published, tmp_path)
    assert remote_answer == _python(local, published, tmp_path)
    assert remote_answer.endswith("A checkpoint is")


def test_main_holds_the_last_checkpoint(published: PublishedRelease, tmp_path: Path) -> None:
    code = f"""
import hashlib
from huggingface_hub import hf_hub_download
def digest(**where):
    with open(hf_hub_download({published.target!r}, "model.safetensors", **where), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
print(digest() == digest(revision="ckpt_002") == digest(revision={published.tag!r}))
"""
    assert _python(code, published, tmp_path) == "True"


def test_load_dataset_reads_one_chunk_at_the_tag(published: PublishedRelease, tmp_path: Path) -> None:
    code = f"""
from datasets import load_dataset
chunk = "chunks/chunk_001.parquet"
data = load_dataset({published.data!r}, data_files=chunk, revision={published.tag!r}, split="train")
print(len(data), data[0]["row"], len(data[0]["token_ids"]), sorted(data.features))
"""
    assert _python(code, published, tmp_path) == "16 16 33 ['documents', 'row', 'step', 'token_ids']"


def test_load_dataset_streams_all_chunks_when_exhausted(published: PublishedRelease, tmp_path: Path) -> None:
    # A stream that is left early aborts the interpreter at exit in most runs (a thread of the reader outlives it),
    # so a reader exhausts it; docs/pulling.md tells users.
    code = f"""
from datasets import load_dataset
stream = load_dataset({published.data!r}, revision={published.tag!r}, split="train", streaming=True)
print([row["row"] for row in stream] == list(range(48)))
"""
    assert _python(code, published, tmp_path) == "True"


def test_hf_download_fetches_files_of_a_checkpoint(published: PublishedRelease, tmp_path: Path) -> None:
    environment = {**published.environment, "HF_HOME": str(tmp_path / "hf")}
    must(
        "hf", "download", published.target, "model.safetensors", "training_state/position.json",
        "--revision", "ckpt_000", "--local-dir", tmp_path / "out", cwd=tmp_path, env=environment,
    )  # fmt: skip
    there = (tmp_path / "out/model.safetensors").read_bytes()
    assert there == (published.folder / "runs/tiny-lm/checkpoints/ckpt_000/model.safetensors").read_bytes()


def test_pulled_data_are_the_rows_that_the_trainer_consumed(published: PublishedRelease, tmp_path: Path) -> None:
    out = tmp_path / "pulled"
    must(
        "open360", "pull", published.target, "--checkpoint", "ckpt_001", "--what", "data", "-o", out,
        cwd=tmp_path, env=published.environment,
    )  # fmt: skip
    trace = (published.folder / "runs/tiny-lm/traces/ckpt_001.jsonl").read_text().splitlines()
    logged = {str(entry["step"]): entry["batch_sha256"] for entry in map(json.loads, trace)}
    assert json.loads((out / "provenance.json").read_bytes())["batches"] == logged


def test_validate_and_show_work_on_the_hub(published: PublishedRelease, tmp_path: Path) -> None:
    assert "0 errors" in must("open360", "validate", published.target, cwd=tmp_path, env=published.environment)
    assert "ckpt_002" in must("open360", "show", published.target, cwd=tmp_path, env=published.environment)
