"""A tiny, complete, valid release of about 40 kB, made with numpy alone: the material of the validator's tests.

One run of six steps with an initial checkpoint and three others; its "training" adds a little to the weights each
step. The bytes depend on nothing but this file.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from safetensors.numpy import load_file, save_file

from open360.pipelines.plan import segments_table
from open360.release.building import build_manifest
from open360.release.corpus.chunk_file import Batch, Group, chunk_schema, write_chunk
from open360.release.hashing import hash_tensor_file
from open360.schema.layout import checkpoint_folder, chunk_path, evaluation_path, step_table_path, trace_path
from open360.schema.schedule import CheckpointPlan, Segment, checkpoints, learning_rate, rows_at, segments
from open360.schema.serialization import canonical_json, dump_json, load_spec, parse_json
from open360.schema.spec import ReleaseSpec

RUN, CORPUS = "tiny", "words"
VOCABULARY, HIDDEN, INNER, ROW_LEN = 32, 4, 8, 9

SPEC = """\
# A release that is as small as it can be.
open360: 1
name: tiny
version: 1.0.0
date: 2026-11-24
description: A release to test validators with.
authors:
  - {name: The open360 authors}
licenses: {weights: Apache-2.0, data: MIT, code: Apache-2.0, documents: CC-BY-4.0}
code:
  - {purpose: everything, entry: dvc repro, lock: constraints.txt}
corpora:
  - name: words
    sources:
      - name: prose
        pypi: prose==1.0
        sha256: "1111111111111111111111111111111111111111111111111111111111111111"
        license: MIT
    deduplicate: exact
    held_out: {fraction: 0.1}
    seed: 7
    tokenizer: {train: byte_level_bpe, vocabulary: 32}
    row: {row_len: 9, seq_len: 8, dtype: uint16, separator: <|endoftext|>}
runs:
  - name: tiny
    objective: pretrain
    corpus: words
    architecture:
      model_type: llama
      hidden_size: 4
      intermediate_size: 8
      num_hidden_layers: 1
      num_attention_heads: 2
      num_key_value_heads: 1
      max_position_embeddings: 8
      rms_norm_eps: 1.0e-6
      tie_word_embeddings: true
      vocab_size: 32
      bos_token_id: 0
      eos_token_id: 0
    optimizer: {type: adamw, betas: [0.9, 0.95], weight_decay: 0.1, clip: 1.0}
    schedule: {type: cosine, peak: 3.0e-3, end: 3.0e-4, warmup: 1, horizon: 6}
    batch: 2
    steps: 6
    seed: 11
    precision: float32
    determinism: portable
    order: {kind: materialized}
    series:
      {name: "ckpt_{index:03d}", every: 2, initial: ckpt_init, optimizer: always, format: safetensors, dtype: float32}
    hub: {model: open360/tiny, data: open360/tiny-data}
    logs: ["runs/tiny/traces/{checkpoint}.jsonl"]
evaluations:
  - {task: held_out, metrics: [loss, perplexity], by: domain, at: all}
"""

Weights = dict[str, npt.NDArray[np.float32]]


def build_tiny_release(folder: Path) -> Path:
    """Write the release into `folder`, which is new; returns it."""
    folder.mkdir(parents=True)
    (folder / "release.yaml").write_text(SPEC)
    spec = load_spec(SPEC.encode())
    (folder / "constraints.txt").write_text("numpy==2.4.6\n")
    (folder / "segments.json").write_bytes(canonical_json(segments_table(spec)))
    code = {stage: hashlib.sha256(stage.encode()).hexdigest() for stage in ("documents", "pack", "tokenizer", "train")}
    (folder / "code.json").write_bytes(canonical_json(code))
    _write_corpus(folder / "corpora" / CORPUS)
    run = spec.run(RUN)
    _write_packing(folder, dict(_write_chunk(folder, spec, segment) for segment in segments(run, spec.corpus_of(run))))
    weights = initial_weights()
    parts = {segment.name: segment for segment in segments(run, spec.corpus_of(run))}
    for plan in checkpoints(run, spec.corpus_of(run)):
        segment = parts.get(plan.name)
        if segment is not None:
            weights = _train(folder, spec, segment, weights)
        _write_checkpoint(folder, spec, plan, segment, weights)
    write_manifest(folder)
    return folder


def write_manifest(folder: Path) -> None:
    """Build the manifest of what lies in the folder."""
    spec_bytes = (folder / "release.yaml").read_bytes()
    code = parse_json((folder / "code.json").read_bytes(), "code.json")
    manifest = build_manifest(load_spec(spec_bytes), folder, spec_bytes=spec_bytes, code=code)
    (folder / "manifest.json").write_bytes(dump_json(manifest))


def _write_corpus(folder: Path) -> None:
    (folder / "tokenizer").mkdir(parents=True)
    lines = [{"id": f"prose/{i}", "source": "prose", "text": f"word {i} " * 4} for i in range(4)]
    text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()
    (folder / "documents.jsonl.zst").write_bytes(zstandard.compress(text))
    (folder / "held_out.jsonl.zst").write_bytes(zstandard.compress(text[: text.index(b"\n") + 1]))
    (folder / "tokenizer" / "tokenizer.json").write_bytes(canonical_json({"model": {"type": "BPE", "vocab": {}}}))
    counts = {"documents": 4, "duplicates": 1, "held_out": 1, "bytes": 112}
    (folder / "counts.json").write_bytes(canonical_json({"sources": {"prose": counts}}))


def _write_chunk(folder: Path, spec: ReleaseSpec, segment: Segment) -> tuple[str, dict[str, Any]]:
    run = spec.run(RUN)
    rng = np.random.default_rng(segment.index)
    ids = rng.integers(0, VOCABULARY, size=(segment.rows, ROW_LEN), dtype=np.uint16)
    steps = range(segment.first_step, segment.end_step)
    batches = tuple(Batch(step=s, first_row=rows_at(run, s), end_row=rows_at(run, s + 1)) for s in steps)
    rows = list(range(segment.first_row, segment.end_row))
    span = {"source": "prose", "id": "0", "start": 0, "length": ROW_LEN, "offset": 0}
    columns = {
        "row": rows,
        "step": [next(b.step for b in batches if b.first_row <= row < b.end_row) for row in rows],
        "token_ids": ids.tolist(),
        "documents": [[span]] * len(rows),
    }
    table = pa.table(columns, schema=chunk_schema("uint16"))
    name = f"chunk_{segment.index:03d}"
    facts = write_chunk(
        folder / chunk_path(RUN, name),
        folder / step_table_path(RUN, name),
        [Group(batches=batches, table=table)],
        "uint16",
    )
    return name, {"rows_sha256": facts.rows_sha256}


def _write_packing(folder: Path, chunks: dict[str, dict[str, Any]]) -> None:
    content = {"chunks": chunks, "sources": {"prose": {"tokens": 110}}, "tokens_left_over": 2}
    (folder / "runs" / RUN / "packing.json").write_bytes(canonical_json(content))


def initial_weights() -> Weights:
    """Weights of the architecture in `SPEC`, before the first step."""
    rng = np.random.default_rng(360)
    layer = "model.layers.0"
    shapes = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        f"{layer}.input_layernorm.weight": (HIDDEN,),
        f"{layer}.mlp.down_proj.weight": (HIDDEN, INNER),
        f"{layer}.mlp.gate_proj.weight": (INNER, HIDDEN),
        f"{layer}.mlp.up_proj.weight": (INNER, HIDDEN),
        f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
        f"{layer}.self_attn.k_proj.weight": (HIDDEN // 2, HIDDEN),
        f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
        f"{layer}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
        f"{layer}.self_attn.v_proj.weight": (HIDDEN // 2, HIDDEN),
        "model.norm.weight": (HIDDEN,),
    }
    return {name: (0.1 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}


def _train(folder: Path, spec: ReleaseSpec, segment: Segment, weights: Weights) -> Weights:
    """The weights at the end of a segment; writes its trace."""
    run = spec.run(RUN)
    table = pq.read_table(folder / step_table_path(RUN, f"chunk_{segment.index:03d}"))
    lines = []
    for entry in table.to_pylist():
        step = entry["step"]
        lr = learning_rate(run.schedule, step)
        rng = np.random.default_rng(1000 + step)
        weights = {name: w + np.float32(lr) * rng.standard_normal(w.shape, np.float32) for name, w in weights.items()}
        facts = {
            "step": step,
            "loss": (3.5 - 0.01 * step).hex(),
            "grad_norm": (1.0).hex(),
            "lr": lr.hex(),
            "tokens": entry["end_row"] * (ROW_LEN - 1),
            "batch_sha256": entry["ids_sha256"],
        }
        lines.append(json.dumps(facts, sort_keys=True) + "\n")
    trace = folder / trace_path(RUN, segment.name)
    trace.parent.mkdir(parents=True, exist_ok=True)
    trace.write_text("".join(lines))
    return weights


def _write_checkpoint(
    folder: Path, spec: ReleaseSpec, plan: CheckpointPlan, segment: Segment | None, weights: Weights
) -> None:
    base = folder / checkpoint_folder(RUN, plan.name)
    (base / "training_state").mkdir(parents=True)
    config = {**spec.run(RUN).architecture, "architectures": ["LlamaForCausalLM"]}
    (base / "config.json").write_bytes(canonical_json(config))
    (base / "generation_config.json").write_bytes(canonical_json({"eos_token_id": 0}))
    tokenizer = (folder / "corpora" / CORPUS / "tokenizer" / "tokenizer.json").read_bytes()
    (base / "tokenizer.json").write_bytes(tokenizer)
    (base / "tokenizer_config.json").write_bytes(canonical_json({"tokenizer_class": "PreTrainedTokenizerFast"}))
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    moments: dict[str, npt.NDArray[Any]] = {}
    for name, value in weights.items():
        moments[f"exp_avg.{name}"] = np.float32(plan.step) * value
        moments[f"exp_avg_sq.{name}"] = np.float32(plan.step) * value * value
        moments[f"step.{name}"] = np.array(plan.step, np.float32)
    save_file(moments, base / "training_state" / "optimizer.safetensors")
    save_file(
        {"torch": np.arange(plan.step, plan.step + 16, dtype=np.uint8)}, base / "training_state" / "rng.safetensors"
    )
    (base / "training_state" / "position.json").write_bytes(canonical_json(_position(folder, plan, segment)))
    record = {"metrics": {"loss": 3.4 - 0.01 * plan.step, "perplexity": 30.0 - plan.step}, "domains": {}}
    evaluation = folder / evaluation_path(RUN, plan.name)
    evaluation.parent.mkdir(parents=True, exist_ok=True)
    evaluation.write_bytes(canonical_json(record))


def _position(folder: Path, plan: CheckpointPlan, segment: Segment | None) -> dict[str, Any]:
    base = folder / checkpoint_folder(RUN, plan.name)
    parent = segment.parent if segment is not None else None
    parent_sha256 = None
    if parent is not None:
        parent_sha256 = hash_tensor_file(folder / checkpoint_folder(RUN, parent) / "model.safetensors")[1]
    return {
        "run": RUN,
        "checkpoint": plan.name,
        "step": plan.step,
        "next_row": segment.end_row if segment is not None else 0,
        "tokens": plan.tokens,
        "parent": parent,
        "parent_sha256": parent_sha256,
        "chunk": f"chunk_{segment.index:03d}" if segment is not None else None,
        "rows_sha256": _rows_sha256(folder, segment) if segment is not None else None,
        "spec_sha256": hashlib.sha256(b"slice").hexdigest(),
        "determinism": "portable",
        "tensors": {
            "weights": hash_tensor_file(base / "model.safetensors")[1],
            "optimizer": hash_tensor_file(base / "training_state" / "optimizer.safetensors")[1],
            "rng": hash_tensor_file(base / "training_state" / "rng.safetensors")[1],
        },
    }


def _rows_sha256(folder: Path, segment: Segment) -> str:
    packing = parse_json((folder / "runs" / RUN / "packing.json").read_bytes(), "packing.json")
    digest: str = packing["chunks"][f"chunk_{segment.index:03d}"]["rows_sha256"]
    return digest


def change_tensors(file: Path, change: dict[str, Any]) -> None:
    """Save a safetensors file again with some tensors replaced."""
    save_file(load_file(file) | change, file, metadata={"format": "pt"})
