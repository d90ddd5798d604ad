"""Peak memory at two input sizes: `python -P bench/memory.py`.

Each measurement is a process of its own. Four times the input must not need more than the limit, and hardly more than
the smaller one did: what is held is bounded by documents and buffers, not by the corpus.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

from corpus_text import BATCH, ROW_LEN, bench_run, packing_spec, prepare_corpus

from open360.release.corpus.document_file import Document, parse_document, read_lines, writing_documents

SIZES_MB = (60, 240)
LIMIT_MB = 500
VOCABULARY = 4096
IDS_PER_BYTE = 0.2  # below what the text has, so that there are enough ids for all rows


def pack(root: Path, megabytes: int, engine: str | None) -> None:
    """Pack the documents below `root`."""
    from open360.release.corpus.packing import pack_run

    spec = packing_spec(int(megabytes * 1e6 * IDS_PER_BYTE) // (BATCH * ROW_LEN), VOCABULARY)
    out = root / "runs" / "bench"
    pack_run(spec, bench_run(spec), root, out / "chunks", out / "steps", workers=2, engine=engine)


def hash_all(root: Path) -> None:
    """Digests of one large file."""
    from open360.release.hashing import hash_files

    hash_files([root / "large.bin"])


WORK: dict[str, Callable[[Path, int], None]] = {
    "packing (tiktoken)": lambda root, size: pack(root, size, None),
    "packing (tokenizers)": lambda root, size: pack(root, size, "tokenizers"),
    "hashing one file": lambda root, _: hash_all(root),
}


def write_input(root: Path, texts: list[str], megabytes: int) -> None:
    """Documents of that many MB of text, all different, and a file of that size."""
    size, number = 0, 0
    with writing_documents(root / "corpora" / "text" / "documents.jsonl.zst") as writer:
        while size < megabytes * 1_000_000:
            data = f"{number}\n{texts[number % len(texts)]}".encode()
            writer.write(Document.of("all", f"{number}.txt", data))
            size, number = size + len(data), number + 1
    block = bytes(range(256)) * 3906
    with (root / "large.bin").open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


def peak_of(what: str, root: Path, megabytes: int) -> float:
    """Peak resident memory in MB of one piece of work in a process of its own."""
    command = [sys.executable, "-P", __file__, what, str(root), str(megabytes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return float(json.loads(done.stdout))


def main() -> int:
    """Print the table; 1 when a limit is not kept."""
    lines = [
        f"| what | peak at {SIZES_MB[0]} MB | peak at {SIZES_MB[1]} MB | growth | limit | verdict |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    kept = True
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        documents = prepare_corpus(root, VOCABULARY) / "documents.jsonl.zst"
        texts = [parse_document(line, "documents").text for batch in read_lines(documents) for line in batch]
        peaks: dict[str, list[float]] = {what: [] for what in WORK}
        for size in SIZES_MB:
            write_input(root, texts, size)
            for what in WORK:
                sys.stderr.write(f"  {what}, {size} MB\n")
                peaks[what].append(peak_of(what, root, size))
    for what, (small, large) in peaks.items():
        holds = max(small, large) < LIMIT_MB
        kept = kept and holds
        lines.append(
            f"| {what} | {small:.0f} MB | {large:.0f} MB | {large / small:.2f} x | < {LIMIT_MB} MB "
            f"| {'holds' if holds else 'fails'} |"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if kept else 1


if __name__ == "__main__":
    if len(sys.argv) == 4:
        WORK[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
        sys.stdout.write(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000))
    else:
        sys.exit(main())
