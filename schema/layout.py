"""Where things lie: in a release folder, and on the Hub. One rule, written once.

In a release folder::

    release.yaml  manifest.json  report.json
    corpora/<corpus>/documents.jsonl.zst  held_out.jsonl.zst  tokenizer/…
    runs/<run>/chunks/chunk_000.parquet  steps/chunk_000.parquet
    runs/<run>/checkpoints/<checkpoint>/…  traces/<checkpoint>.jsonl  evaluations/<checkpoint>.json

On the Hub: a checkpoint's folder is the root of its revision in the run's model repository; chunks, step tables and
corpora go to the data repository; all else goes to `main` of the primary model repository under its own path.
"""

from __future__ import annotations

SPEC_FILE = "release.yaml"
MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.json"
SEGMENTS_FILE = "segments.json"
CODE_FILE = "code.json"


def corpus_folder(corpus: str) -> str:
    """Folder of a corpus."""
    return f"corpora/{corpus}"


def run_folder(run: str) -> str:
    """Folder of a run."""
    return f"runs/{run}"


def chunk_name(index: int) -> str:
    """Name of chunk `index` (0-based): three digits, more when needed; never bare digits (YAML would read a number)."""
    return f"chunk_{index:03d}"


def chunk_path(run: str, chunk: str) -> str:
    """The Parquet file of a chunk."""
    return f"runs/{run}/chunks/{chunk}.parquet"


def step_table_path(run: str, chunk: str) -> str:
    """The step table of a chunk."""
    return f"runs/{run}/steps/{chunk}.parquet"


def checkpoint_folder(run: str, checkpoint: str) -> str:
    """The folder of a checkpoint."""
    return f"runs/{run}/checkpoints/{checkpoint}"


def trace_path(run: str, checkpoint: str) -> str:
    """The trace of the segment that ends in a checkpoint: one JSON line a step."""
    return f"runs/{run}/traces/{checkpoint}.jsonl"


def evaluation_path(run: str, checkpoint: str) -> str:
    """The evaluation record of a checkpoint."""
    return f"runs/{run}/evaluations/{checkpoint}.json"


def path_in_data_repo(path: str) -> str:
    """Path of a chunk, step table or corpus file in the data repository."""
    parts = path.split("/")
    return "/".join(parts[2:]) if parts[0] == "runs" and len(parts) > 3 and parts[2] in ("chunks", "steps") else path
