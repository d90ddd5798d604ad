"""Fixtures of the corpus' tests: a small spec, a trained tokenizer, a release folder to pack in."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from open360.release.corpus.document_file import Document, writing_documents
from open360.release.corpus.packing import PackResult, pack_run
from open360.release.corpus.tokenizer import build_tokenizer
from open360.schema.manifest import ChunkRecord, FileRecord
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec

Text = tuple[str, str, str]  # source, path, text


def make_spec(
    *,
    epochs: Sequence[int] = (1, 2),
    batch: str = "4",
    steps: int = 6,
    every: int = 3,
    row_len: int = 17,
    dtype: str = "uint16",
    deduplicate: str = "exact",
    vocabulary: int = 300,
) -> ReleaseSpec:
    sources = "".join(f"      - {{name: source-{i}, local: texts/{i}, epochs: {n}}}\n" for i, n in enumerate(epochs))
    text = f"""\
open360: 1
name: small
corpora:
  - name: words
    sources:
{sources}    deduplicate: {deduplicate}
    held_out: {{fraction: 0.2}}
    seed: 7
    tokenizer: {{train: byte_level_bpe, vocabulary: {vocabulary}}}
    row: {{row_len: {row_len}, seq_len: {row_len - 1}, dtype: {dtype}, separator: <|endoftext|>}}
runs:
  - name: small
    objective: pretrain
    corpus: words
    batch: {batch}
    steps: {steps}
    order: {{kind: materialized}}
    series: {{name: "ckpt_{{index:03d}}", every: {every}, initial: ckpt_init}}
"""
    return load_spec(text.encode())


def some_texts(count: int = 40, words: int = 30, sources: int = 2, seed: int = 1) -> list[Text]:
    rng = random.Random(seed)
    vocabulary = ["alpha", "beta", "gamma", "über", "漢字", "if x == 1:", "\n    ", "<|endoftext|>", "42", "'ll"]
    return [
        (f"source-{i % sources}", f"{i}.txt", " ".join(rng.choice(vocabulary) for _ in range(rng.randrange(1, words))))
        for i in range(count)
    ]


def write_documents(path: Path, texts: Sequence[Text]) -> None:
    with writing_documents(path) as writer:
        for source, name, text in texts:
            writer.write(Document.of(source, name, text.encode()))


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed run: where it lies, what was reported."""

    folder: Path
    result: PackResult

    @property
    def chunks(self) -> list[Path]:
        return sorted((self.folder / "chunks").iterdir())

    @property
    def step_tables(self) -> list[Path]:
        return sorted((self.folder / "steps").iterdir())

    def bytes_of_all(self) -> dict[str, bytes]:
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def record(self, index: int) -> ChunkRecord:
        name, facts = list(self.result.chunks.items())[index]
        files = [
            FileRecord(path=f"runs/small/{p.parent.name}/{p.name}", bytes=p.stat().st_size, sha256=_sha256(p))
            for p in (self.chunks[index], self.step_tables[index])
        ]
        return ChunkRecord(
            name=name,
            file=files[0],
            step_table=files[1],
            first_step=facts.first_step,
            end_step=facts.end_step,
            first_row=facts.first_row,
            end_row=facts.end_row,
            row_len=self.result.row_len,
            rows_sha256=facts.rows_sha256,
        )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 300 entries."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_documents(folder / "documents.jsonl.zst", some_texts(400))
    build_tokenizer(make_spec().corpora[0], folder, folder / "documents.jsonl.zst", folder / "tokenizer")
    return folder / "tokenizer"


@pytest.fixture
def pack(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Packed]:
    """Pack texts by a spec in a new release folder."""
    count = 0

    def run(
        texts: Sequence[Text], spec: ReleaseSpec | None = None, *, workers: int = 2, engine: str | None = None
    ) -> Packed:
        nonlocal count
        count += 1
        root = tmp_path / f"release-{count}"
        corpus = root / "corpora" / "words"
        shutil.copytree(tokenizer_folder, corpus / "tokenizer")
        write_documents(corpus / "documents.jsonl.zst", texts)
        spec = spec or make_spec()
        folder = root / "runs" / "small"
        result = pack_run(
            spec, spec.run("small"), root, folder / "chunks", folder / "steps", workers=workers, engine=engine
        )
        return Packed(folder=folder, result=result)

    return run
