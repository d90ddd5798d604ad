"""What pulling one batch costs, counted by the Hub: `python -P bench/pull.py`.

A release with real-sized batches (64 rows of 2,049 ids, one row group each) is published to a local Hub, and one batch
is pulled from it: cold (nothing known but ORG/NAME), with tag, manifest and step table read before, and as a second
command with a full commit and the caches on disk. Bytes and requests are those that the Hub counts. The reference is
the stored row group; footer and step table are the only other parts of the data that may be read, once a chunk.

Beside it a release of others with Pythia's layout: raw rows of 2,049 uint16 ids, 1,024 a batch, in shards that rows
straddle. The reference are the bytes of the batch's rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

import numpy as np
import pyarrow as pa
from ratios import Row, table

from open360.release.corpus.chunk_file import Batch, Group, chunk_schema, write_chunk
from open360.release.foreign_pulling import carry_out, prepare_rows
from open360.release.foreign_selection import Wanted
from open360.release.foreign_target import ForeignTarget
from open360.release.hub import Hub
from open360.release.hub_objects import Repo, Upload
from open360.release.hub_target import HubTarget, open_hub_target
from open360.release.local_hub import running_hub
from open360.release.opening import open_any_target
from open360.release.publishing import publish
from open360.release.pulling import pull_steps
from open360.release.remote_rows import read_step_table
from open360.schema.digests import rows_digest
from open360.schema.layout import chunk_name, chunk_path, step_table_path
from open360.schema.manifest import (
    CheckpointRecord,
    ChunkRecord,
    FileRecord,
    Manifest,
    RunRecord,
    TensorDigests,
)
from open360.schema.serialization import dump_json

ROWS, ROW_LEN, STEPS, VOCABULARY = 64, 2_049, 12, 50_000
STEP = 7
SPEC = """\
open360: 1
name: pull
version: 1.0.0
runs:
  - name: pull
    objective: pretrain
    hub: {model: bench/pull, data: bench/pull-data}
"""


def row_groups() -> Iterator[Group]:
    """One row group a step, of ids that are spread as words are (a Zipf law), and one document a row."""
    random = np.random.default_rng(360)
    for step in range(STEPS):
        ids = np.minimum(random.zipf(1.3, (ROWS, ROW_LEN)), VOCABULARY - 1).astype(np.uint16)
        first = step * ROWS
        documents = [
            [{"source": "zipf", "id": f"{first + row:08d}", "start": 0, "length": ROW_LEN, "offset": 0}]
            for row in range(ROWS)
        ]
        columns = {
            "row": np.arange(first, first + ROWS),
            "step": np.full(ROWS, step, dtype=np.int32),
            "token_ids": list(ids),
            "documents": documents,
        }
        batch = Batch(step=step, first_row=first, end_row=first + ROWS)
        yield Group(batches=(batch,), table=pa.table(columns, schema=chunk_schema("uint16")))


RAW_ROWS, RAW_STEPS = 1_024, 6
RAW_BATCH = RAW_ROWS * ROW_LEN * 2
RAW_SHARD = 3 * RAW_BATCH + RAW_BATCH // 2 + 6  # batch 3 straddles it
RAW_LAST = RAW_STEPS * RAW_BATCH - RAW_SHARD
RAW_SPEC = f"""\
open360: 1
name: raw
version: 1.0.0
corpora:
  - name: rows
    repository: {{dataset: bench/raw-data}}
    row: {{row_len: {ROW_LEN}, seq_len: {ROW_LEN - 1}, dtype: uint16, format: bin}}
    files: {{pattern: "part-{{index}}.bin", count: 2, bytes: {RAW_SHARD}, last_bytes: {RAW_LAST}}}
runs:
  - name: raw
    objective: pretrain
    corpus: rows
    batch: {RAW_ROWS}
    steps: {RAW_STEPS}
    order: {{kind: materialized}}
    hub: {{model: bench/raw, data: bench/raw-data}}
"""


def put_raw(hub: Hub, folder: Path) -> Path:
    """Put raw shards on the Hub; returns the spec that describes them."""
    stream = np.random.default_rng(360).integers(0, VOCABULARY, RAW_STEPS * RAW_BATCH // 2, dtype=np.uint16).tobytes()
    repo = Repo(id="bench/raw-data", type="dataset")
    hub.create_repo(repo, private=False)
    parts = {"part-0.bin": stream[:RAW_SHARD], "part-1.bin": stream[RAW_SHARD:]}
    uploads = [Upload(path=path, source=data, sha256=hashlib.sha256(data).hexdigest()) for path, data in parts.items()]
    prepared = hub.prepare_commit(repo, "main", uploads)
    hub.commit(prepared, delete=(), message="Add rows", parent=hub.commit_of(repo, "main"))
    spec = folder / "raw.yaml"
    spec.write_text(RAW_SPEC)
    return spec


def measure_raw(hub: Hub, meter: Meter, folder: Path) -> list[Row]:
    """One batch inside of a shard, and one that lies in two."""
    spec = put_raw(hub, folder)
    rows = []
    for what, step, reads in (("raw rows, cold", 1, 3), ("raw rows in two shards, cold", 3, 4)):

        def pull(step: int = step) -> None:
            target = open_any_target("raw", spec=spec, endpoint=hub.endpoint)
            assert isinstance(target, ForeignTarget)
            carry_out(prepare_rows(target, Wanted(steps=(step, step + 1))), folder / f"raw-{step}")

        os.environ["OPEN360_CACHE"] = str(folder / f"cache-{step}")
        traffic = meter.of(pull)
        rows += [bytes_row(what, traffic, RAW_BATCH, 1.05), requests_row(f"{what} (logical reads)", traffic, reads)]
    return rows


def build_release(root: Path) -> Manifest:
    """A release of one chunk and one checkpoint with no weights worth the name."""
    name = chunk_name(0)
    chunk, steps = root / chunk_path("pull", name), root / step_table_path("pull", name)
    for path in (chunk, steps):
        path.parent.mkdir(parents=True, exist_ok=True)
    facts = write_chunk(chunk, steps, row_groups(), "uint16")
    folder = root / "runs/pull/checkpoints/last"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}\n")
    (root / "release.yaml").write_text(SPEC)

    def record(path: str, relative_to: str = "") -> FileRecord:
        data = (root / path).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return FileRecord(path=path.removeprefix(relative_to), bytes=len(data), sha256=digest)

    checkpoint = CheckpointRecord(
        name="last",
        step=STEPS,
        tokens=STEPS * ROWS * (ROW_LEN - 1),
        learning_rate=None,
        parent=None,
        chunk=name,
        first_row=0,
        end_row=facts.end_row,
        holds=(),
        folder="runs/pull/checkpoints/last",
        files=(record("runs/pull/checkpoints/last/config.json", "runs/pull/checkpoints/last/"),),
        tensors=TensorDigests(weights=rows_digest([])),
    )
    stored = ChunkRecord(
        name=name,
        file=record(chunk_path("pull", name)),
        step_table=record(step_table_path("pull", name)),
        first_step=0,
        end_step=STEPS,
        first_row=0,
        end_row=facts.end_row,
        row_len=ROW_LEN,
        rows_sha256=facts.rows_sha256,
    )
    run = RunRecord(name="pull", corpus=None, chunks=(stored,), checkpoints=(checkpoint,), tokens=checkpoint.tokens)
    manifest = Manifest(
        open360=1,
        form="built",
        name="pull",
        version="1.0.0",
        spec_sha256=record("release.yaml").sha256,
        environment_sha256=None,
        code=(),
        corpora=(),
        runs=(run,),
        files=(record("release.yaml"),),
    )
    (root / "manifest.json").write_bytes(dump_json(manifest))
    return manifest


class Meter:
    """Counts of a local Hub."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/.open360/stats"

    def of(self, call: Callable[[], object]) -> list[dict[str, Any]]:
        """What the Hub was asked for during a call."""
        urllib.request.urlopen(urllib.request.Request(self.url, method="DELETE")).close()
        call()
        with urllib.request.urlopen(self.url) as answer:
            found: list[dict[str, Any]] = json.load(answer)["by"]
        return found


def data_bytes(traffic: list[dict[str, Any]]) -> int:
    """Bytes of chunks and step tables."""
    return sum(entry["bytes_out"] for entry in traffic if "-data/resolve/" in entry["path"])


def requests_of(traffic: list[dict[str, Any]]) -> int:
    """Requests, whatever was asked."""
    return sum(entry["count"] for entry in traffic)


def bytes_row(what: str, traffic: list[dict[str, Any]], allowed: int, limit: float) -> Row:
    """Bytes of data that were read, as a multiple of what they may be."""
    read = data_bytes(traffic)
    ratio = read / allowed
    return Row(
        what=f"{what}: bytes of data",
        ours=f"{read:,} B",
        reference=f"{allowed:,} B",
        ratio=ratio,
        low=ratio,
        high=ratio,
        limit=limit,
        at_least=False,
    )


def requests_row(what: str, traffic: list[dict[str, Any]], allowed: int) -> Row:
    """Requests, as a multiple of how many they may be."""
    count = requests_of(traffic)
    ratio = count / allowed
    return Row(
        what=f"{what}: requests",
        ours=str(count),
        reference=str(allowed),
        ratio=ratio,
        low=ratio,
        high=ratio,
        limit=1.0,
        at_least=False,
    )


def measure(folder: Path) -> list[Row]:
    """All rows of the table."""
    os.environ["OPEN360_CACHE"] = str(folder / "cache")
    manifest = build_release(folder / "release")
    chunk = manifest.runs[0].chunks[0]
    with running_hub(folder / "hub") as running:
        hub = Hub(running.url, "bench")
        publish(folder / "release", hub)
        commit = hub.refs(Repo(id="bench/pull", type="model")).tags["v1.0.0"]
        meter = Meter(running.url)

        def pull(target: HubTarget, step: int) -> None:
            pull_steps(target, step, step, folder / f"out-{step}")

        opened: list[HubTarget] = []

        def cold() -> None:
            opened.append(open_hub_target("bench/pull", hub=hub))
            pull(opened[0], STEP)

        first = meter.of(cold)
        known = meter.of(lambda: pull(opened[0], STEP + 1))
        again = meter.of(lambda: pull(open_hub_target("bench/pull", tag=commit, hub=hub), STEP + 2))
        steps = read_step_table(opened[0], chunk)
        raw = measure_raw(hub, meter, folder)
    groups = [entry.group_end - entry.group_begin for entry in map(steps.entry, range(STEP, STEP + 3))]
    once = chunk.step_table.bytes + chunk.file.bytes - steps.data_end
    return [
        bytes_row("cold", first, int(1.05 * groups[0]) + once, 1.0),
        requests_row("cold (logical reads)", first, 5),
        bytes_row("tag, manifest, step table known", known, groups[1], 1.05),
        requests_row("tag, manifest, step table known", known, 1),
        bytes_row("a second command, at a commit", again, groups[2], 1.05),
        requests_row("a second command, at a commit", again, 1),
        *raw,
    ]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="open360-pull-") as name:
        print(table(measure(Path(name))))


if __name__ == "__main__":
    main()
