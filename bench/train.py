"""Speed of the trainer against a bare torch loop: `python -P bench/train.py`.

Both sides train the reference release's model on the same rows with the same settings, one thread.
Ours reads the rows from Parquet, checks and digests them, and keeps the trace; the bare loop finds its batches in
memory and only counts. A second row takes a whole segment: parent read and verified, rows verified, checkpoint written.
A third takes a snapshot in the middle of a segment: training must wait for a copy of the tensors, no longer.
"""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from ratios import Row, compare, table
from tokenizers import Tokenizer, models

from open360.schema.layout import chunk_name, chunk_path, corpus_folder, step_table_path
from open360.schema.run import Run
from open360.schema.schedule import Segment, segments
from open360.schema.serialization import load_spec
from open360.trainer import determinism
from open360.trainer.checkpoint import State
from open360.trainer.loop import train_steps
from open360.trainer.model import build_model
from open360.trainer.optimizer import build_optimizer
from open360.trainer.recipe import Recipe, recipe_of
from open360.trainer.rows import ChunkRows
from open360.trainer.segment import initialize_run, train_segment
from open360.trainer.snapshots import Snapshots

STEPS = 12
BATCH = 8
SPEC = f"""
open360: 1
name: speed
corpora: [{{name: numbers, row: {{row_len: 257, seq_len: 256}}}}]
runs:
  - name: speed
    objective: pretrain
    corpus: numbers
    architecture:
      model_type: llama
      hidden_size: 96
      intermediate_size: 256
      num_hidden_layers: 4
      num_attention_heads: 4
      num_key_value_heads: 4
      max_position_embeddings: 256
      tie_word_embeddings: true
      vocab_size: 4096
    optimizer: {{type: adamw, betas: [0.9, 0.95], weight_decay: 0.1, clip: 1.0}}
    schedule: {{type: cosine, peak: 3.0e-3, end: 3.0e-4, warmup: 2, horizon: {STEPS}}}
    batch: {BATCH}
    steps: {STEPS}
    seed: 1
    determinism: machine
    series: {{name: "ckpt_{{index:03d}}", every: {STEPS}, initial: ckpt_init}}
"""
STATE_MEGABYTES = 96


def write_inputs(root: Path, run: Run, segment: Segment) -> np.ndarray:
    """Chunk, step table and the smallest tokenizer; returns the rows."""
    ids = np.random.default_rng(1).integers(0, 4096, size=(segment.rows, 257), dtype=np.uint16)
    name, lists = chunk_name(0), pa.list_(pa.uint16())
    chunk, steps = root / chunk_path(run.name, name), root / step_table_path(run.name, name)
    for path in (chunk, steps):
        path.parent.mkdir(parents=True)
    rows = np.arange(segment.rows)
    columns = {"row": rows, "step": pa.array(rows // BATCH, pa.int32()), "token_ids": pa.array(list(ids), lists)}
    pq.write_table(pa.table(columns), chunk, compression="zstd", use_dictionary=False, row_group_size=16 * BATCH)
    entries = [
        {
            "step": step,
            "first_row": step * BATCH,
            "end_row": (step + 1) * BATCH,
            "ids_sha256": hashlib.sha256(ids[step * BATCH : (step + 1) * BATCH].astype("<u4").tobytes()).hexdigest(),
        }
        for step in range(STEPS)
    ]
    pq.write_table(pa.Table.from_pylist(entries), steps)
    tokenizer = root / corpus_folder("numbers") / "tokenizer"
    tokenizer.mkdir(parents=True)
    Tokenizer(models.WordLevel({"?": 0}, unk_token="?")).save(str(tokenizer / "tokenizer.json"))
    return ids


def bare_loop(recipe: Recipe, batches: list[torch.Tensor]) -> Callable[[], None]:
    """A loop as one would write it by hand, over batches in memory."""
    torch.manual_seed(1)
    model = build_model(recipe.run)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=recipe.optimizer.betas, weight_decay=0.1, foreach=True
    )
    model.train()

    def loop() -> None:
        for step, ids in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = 3e-4 + 2.7e-3 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            loss.item()

    return loop


def our_loop(recipe: Recipe, rows: ChunkRows) -> Callable[[], None]:
    """The loop of `train_segment`, with its reading, checking and digesting of rows."""
    torch.manual_seed(1)
    model = build_model(recipe.run)
    optimizer = build_optimizer(recipe, model)

    def loop() -> None:
        for step in train_steps(recipe, model, optimizer, rows.batches(0)):
            step.loss.hex()

    return loop


def snapshot_stall(folder: Path) -> Row:
    """How long `Snapshots.take` holds up the training, against a copy of the same tensors."""
    count = STATE_MEGABYTES // 3
    tensors = {f"w{index:03d}": torch.randn(512, 512) for index in range(count)}
    state = State(weights=tensors, optimizer=tensors | {f"m{i:03d}": t for i, t in enumerate(tensors.values())}, rng={})
    snapshots = Snapshots(folder, "0" * 64, seconds=600, steps=None)
    with snapshots:
        row = compare(
            f"snapshot of {STATE_MEGABYTES} MB: training stalls",
            lambda: snapshots.take(1, state, []),
            state.copied,
            1.25,
            at_least=False,
            repeats=15,
            clock=time.perf_counter,
            prepare=snapshots.wait,
        )
        snapshots.remove()
    return row


def rows() -> list[Row]:
    """The comparisons of this program."""
    spec = load_spec(SPEC.encode())
    run = spec.all_runs()[0]
    recipe = recipe_of(spec, run)
    determinism.apply("machine")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        segment = segments(run, recipe.corpus)[0]
        ids = write_inputs(root, run, segment)
        initialize_run(spec, run, root)
        batches = [torch.from_numpy(ids[at : at + BATCH].astype(np.int64)) for at in range(0, len(ids), BATCH)]
        chunk = ChunkRows(run, segment, root, row_len=recipe.row_len, vocabulary=recipe.vocabulary)
        tokens = STEPS * BATCH * recipe.seq_len
        bare = bare_loop(recipe, batches)
        whole = f"whole segment of {STEPS} steps, with checks, checkpoint and record"
        return [
            compare("training loop", our_loop(recipe, chunk), bare, 0.95, amount=tokens, unit="tok"),
            compare(
                whole,
                lambda: train_segment(spec, run, segment, root, scratch=None),
                bare,
                None,
                amount=tokens,
                unit="tok",
            ),
            snapshot_stall(root / "scratch"),
        ]


def main() -> None:
    """Print the table."""
    print(table(rows()), end="")


if __name__ == "__main__":
    main()
