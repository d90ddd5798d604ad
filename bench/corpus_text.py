"""Real text for the benchmarks of packing: the source distributions of the reference release, fetched once."""

from __future__ import annotations

from pathlib import Path

from open360.release.corpus.documents import build_documents
from open360.release.corpus.sources import fetch_sources
from open360.release.corpus.tokenizer import build_tokenizer
from open360.schema.run import Run
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec

PROJECT = Path(__file__).resolve().parent.parent
CACHE = PROJECT / ".cache" / "bench"
ROW_LEN = 2049
BATCH = 32


def packing_spec(steps: int, vocabulary: int) -> ReleaseSpec:
    """A spec over all text of one source distribution, with the pin of the reference release."""
    pinned = load_spec((PROJECT / "release.yaml").read_bytes()).corpora[0].sources[0]
    text = f"""\
open360: 1
name: bench
corpora:
  - name: text
    sources:
      - name: all
        pypi: {pinned.pypi}
        sha256: "{pinned.sha256}"
        include: ["django/**/*.py", "docs/**/*.txt"]
    deduplicate: exact
    seed: 1
    tokenizer: {{train: byte_level_bpe, vocabulary: {vocabulary}}}
    row: {{row_len: {ROW_LEN}, seq_len: {ROW_LEN - 1}, dtype: uint16, separator: <|endoftext|>}}
runs:
  - name: bench
    objective: pretrain
    corpus: text
    batch: {BATCH}
    steps: {steps}
    order: {{kind: materialized}}
    series: {{name: "ckpt_{{index}}", every: {max(steps // 3, 1)}, final: true}}
"""
    return load_spec(text.encode())


def prepare_corpus(root: Path, vocabulary: int) -> Path:
    """Fetch and build documents and tokenizer below `root`; returns the corpus' folder."""
    corpus = packing_spec(1, vocabulary).corpora[0]
    folder = root / "corpora" / corpus.name
    fetch_sources(corpus, root, CACHE / "sources")
    build_documents(corpus, CACHE / "sources", folder)
    build_tokenizer(corpus, root, folder / "documents.jsonl.zst", folder / "tokenizer")
    return folder


def bench_run(spec: ReleaseSpec) -> Run:
    """The one run of a spec of `packing_spec`."""
    return spec.run("bench")
