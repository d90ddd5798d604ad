"""Speed of packing against tokenising alone: `python -P bench/pack.py`.

Ours goes from compressed documents to finished, synced chunks with all digests. The reference is only
`tokenizers.encode_batch` over the same texts, which lie in memory already. Both may use two cores; rows are given in
CPU seconds (of all threads) and by the wall clock.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

os.environ["RAYON_NUM_THREADS"] = "2"
os.environ["TOKENIZERS_PARALLELISM"] = "true"
sys.path.append(str(Path(__file__).resolve().parent))

from corpus_text import BATCH, ROW_LEN, bench_run, packing_spec, prepare_corpus
from ratios import Row, compare, table
from tokenizers import Tokenizer

from open360.release.corpus.document_file import parse_document, read_lines
from open360.release.corpus.packing import PackResult, pack_run

VOCABULARIES = (4096, 32_768)
LIMIT = 2.0


def measure(root: Path, vocabulary: int) -> list[Row]:
    """Both clocks for one size of vocabulary."""
    folder = prepare_corpus(root, vocabulary)
    lines = (line for batch in read_lines(folder / "documents.jsonl.zst") for line in batch)
    texts = [parse_document(line, "documents").text for line in lines]
    amount = sum(len(text.encode()) for text in texts)
    reference = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))

    def pack(steps: int) -> PackResult:
        spec = packing_spec(steps, vocabulary)
        out = root / "runs" / "bench"
        return pack_run(spec, bench_run(spec), root, out / "chunks", out / "steps", workers=2)

    first = pack(1)
    steps = first.tokens // (BATCH * ROW_LEN)
    sys.stderr.write(
        f"  {amount / 1e6:.1f} MB in {len(texts)} documents, {first.tokens / 1e6:.2f} M ids of {vocabulary}, "
        f"engine {first.engine}\n"
    )
    clocks = {"CPU time": time.process_time, "wall clock": time.perf_counter}
    return [
        compare(
            f"pack {amount / 1e6:.0f} MB, vocabulary {vocabulary}, two cores, {name}",
            lambda: pack(steps),
            lambda: reference.encode_batch(texts, add_special_tokens=False),
            LIMIT,
            clock=clock,
            amount=float(amount),
            unit="B",
        )
        for name, clock in clocks.items()
    ]


def main() -> None:
    """Print the table."""
    rows: list[Row] = []
    for vocabulary in VOCABULARIES:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(Path(folder), vocabulary)
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
