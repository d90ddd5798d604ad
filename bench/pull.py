"""What pulling one batch costs, counted by the Hub: `python -P bench/pull.py`.

A release with real-sized batches (64 rows of 2,049 ids, one row group each) is published to a local Hub, and one batch
is pulled from it: cold (nothing known but ORG/NAME), with tag, manifest and step table read before, and as a second
command with a full commit and the caches on disk. Bytes and requests are those that the Hub counts. The reference is
the stored row group; footer and step table are the only other parts of the data that may be read, once a chunk.
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
from open360.release.hub import Hub
from open360.release.hub_objects import Repo
from open360.release.hub_target import HubTarget, open_hub_target
from open360.release.local_hub import running_hub
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
    return sum(entry["bytes_out"] for entry in traffic if "/pull-data/resolve/" in entry["path"])


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
    groups = [entry.group_end - entry.group_begin for entry in map(steps.entry, range(STEP, STEP + 3))]
    once = chunk.step_table.bytes + chunk.file.bytes - steps.data_end
    return [
        bytes_row("cold", first, int(1.05 * groups[0]) + once, 1.0),
        requests_row("cold (logical reads)", first, 5),
        bytes_row("tag, manifest, step table known", known, groups[1], 1.05),
        requests_row("tag, manifest, step table known", known, 1),
        bytes_row("a second command, at a commit", again, groups[2], 1.05),
        requests_row("a second command, at a commit", again, 1),
    ]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(prefix="open360-pull-") as name:
        print(table(measure(Path(name))))


if __name__ == "__main__":
    main()
