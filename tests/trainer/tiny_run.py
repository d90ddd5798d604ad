"""A release folder of the smallest size that trains: a model of 25 k parameters, chunks, a tokenizer, documents."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from open360.schema.layout import chunk_name, chunk_path, corpus_folder, step_table_path
from open360.schema.run import Run
from open360.schema.schedule import Segment, rows_at, segments
from open360.schema.serialization import load_spec
from open360.schema.spec import ReleaseSpec

SPEC = """
open360: 1
name: tiny
corpora:
  - name: toy
    sources:
      - {name: poems, domain: prose}
      - {name: scripts, domain: code}
    row: {row_len: 17, seq_len: 16, dtype: uint16, separator: <|end|>}
runs:
  - name: tiny
    objective: pretrain
    corpus: toy
    architecture:
      model_type: llama
      hidden_size: 32
      intermediate_size: 48
      num_hidden_layers: 2
      num_attention_heads: 2
      num_key_value_heads: 1
      max_position_embeddings: 32
      tie_word_embeddings: true
      vocab_size: 300
      bos_token_id: 0
      eos_token_id: 0
    optimizer: {type: adamw, betas: [0.9, 0.95], weight_decay: 0.1, clip: 1.0}
    schedule: {type: cosine, peak: 1.0e-2, end: 1.0e-3, warmup: 3, horizon: 18}
    batch: 4
    steps: 18
    seed: 7
    precision: float32
    determinism: machine
    series: {name: "ckpt_{index:03d}", every: 6, initial: ckpt_init}
evaluations:
  - {task: held_out, metrics: [loss, perplexity, bits_per_byte], by: domain}
"""
ALPHABET = "abcdefghijklmnopqrstuvwxyz .,\n"


def tiny_spec(change: Callable[[str], str] = lambda text: text) -> ReleaseSpec:
    """The spec of the tiny release, its text changed by `change`."""
    return load_spec(change(SPEC).encode())


def segment_named(spec: ReleaseSpec, name: str) -> tuple[Run, Segment]:
    """The only run, and its segment that ends in checkpoint `name`."""
    run = spec.all_runs()[0]
    return run, next(s for s in segments(run, spec.corpus_of(run)) if s.name == name)


def write_chunk(root: Path, run: Run, segment: Segment, ids: np.ndarray, *, steps_in_group: int = 2) -> Path:
    """Write the chunk and the step table of a segment. `ids`: (rows, row_len)."""
    name = chunk_name(segment.index)
    chunk, table = root / chunk_path(run.name, name), root / step_table_path(run.name, name)
    for path in (chunk, table):
        path.parent.mkdir(parents=True, exist_ok=True)
    lists = pa.list_(pa.uint16())
    schema = pa.schema([("row", pa.int64()), ("step", pa.int32()), ("token_ids", lists)])
    entries = []
    with pq.ParquetWriter(chunk, schema, compression="zstd", use_dictionary=False, write_statistics=False) as writer:
        steps = list(range(segment.first_step, segment.end_step))
        for at in range(0, len(steps), steps_in_group):
            group = steps[at : at + steps_in_group]
            rows = range(rows_at(run, group[0]), rows_at(run, group[-1] + 1))
            step_of = [step for step in group for _ in range(rows_at(run, step), rows_at(run, step + 1))]
            taken = ids[rows.start - segment.first_row : rows.stop - segment.first_row]
            columns = [pa.array(rows, pa.int64()), pa.array(step_of, pa.int32()), pa.array(list(taken), lists)]
            writer.write_table(pa.table(columns, schema=schema))
    for step in steps:
        first, end = rows_at(run, step), rows_at(run, step + 1)
        batch = ids[first - segment.first_row : end - segment.first_row].astype("<u4").tobytes()
        digest = hashlib.sha256(batch).hexdigest()
        entries.append({"step": step, "first_row": first, "end_row": end, "ids_sha256": digest})
    fields = [("step", pa.int32()), ("first_row", pa.int64()), ("end_row", pa.int64()), ("ids_sha256", pa.string())]
    pq.write_table(pa.Table.from_pylist(entries, schema=pa.schema(fields)), table)
    return chunk


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of single bytes-as-letters with a separator, id 0."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|end|>": 0, **{letter: i for i, letter in enumerate(letters, start=1)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}\n')


def write_held_out(path: Path, documents: list[dict[str, str]]) -> None:
    """Write held-out documents, `{id, text, source}` each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = io.BytesIO()
    for document in documents:
        digest = hashlib.sha256(document["text"].encode()).hexdigest()
        lines.write(json.dumps({**document, "sha256": digest}).encode() + b"\n")
    path.write_bytes(zstandard.compress(lines.getvalue()))


def held_out_documents(seed: int = 3) -> list[dict[str, str]]:
    """Documents of many lengths, one of them empty, one of one letter."""
    draw = random.Random(seed)
    lengths = [0, 1, 15, 16, 17, 33, 100, 64, 5]
    return [
        {
            "id": f"doc-{index}",
            "text": "".join(draw.choices(ALPHABET, k=length)) + ("é" if index == 4 else ""),
            "source": ("poems", "scripts")[index % 2],
        }
        for index, length in enumerate(lengths)
    ]


def row_stream(rows: int, row_len: int, seed: int) -> np.ndarray:
    """The rows of a whole run, however it is cut into segments: counting by threes from random starts."""
    first = np.random.default_rng(seed).integers(1, 40, size=(rows, 1))
    return ((first + np.arange(row_len) * 3) % 250 + 1).astype(np.uint16)


def build_inputs(root: Path, spec: ReleaseSpec, *, seed: int = 1) -> Path:
    """All inputs of the tiny release: chunks of random but learnable ids, the tokenizer, held-out documents."""
    run = spec.all_runs()[0]
    corpus = spec.corpora[0]
    assert corpus.row is not None
    stream = row_stream(rows_at(run, run.steps or 0), corpus.row.row_len, seed)
    for segment in segments(run, corpus):
        write_chunk(root, run, segment, stream[segment.first_row : segment.end_row])
    write_tokenizer(root / corpus_folder(corpus.name) / "tokenizer")
    write_held_out(root / corpus_folder(corpus.name) / "held_out.jsonl.zst", held_out_documents())
    return root


def build(root: Path, spec: ReleaseSpec, *, until: str | None = None, **options: Any) -> Path:
    """Inputs, the initial checkpoint, and every segment up to the one named `until` (None: all)."""
    from open360.trainer.segment import initialize_run, train_segment

    build_inputs(root, spec)
    run = spec.all_runs()[0]
    initialize_run(spec, run, root)
    for segment in segments(run, spec.corpus_of(run)):
        train_segment(spec, run, segment, root, scratch=None, **options)
        if segment.name == until:
            break
    return root


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, records aside, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if not name.startswith("records/")}


def tensors_of(root: Path, checkpoint: str) -> dict[str, bytes]:
    """The tensor files of a checkpoint of run `tiny`, with their bytes."""
    files = file_bytes(root / "runs/tiny/checkpoints" / checkpoint)
    return {name: data for name, data in files.items() if name.endswith(".safetensors")}
