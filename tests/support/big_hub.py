"""Releases of real size on a local Hub: thousands of revisions, listed with sizes and digests, hardly any bytes.

Written straight into the Hub's folder, so that 3,600 checkpoints take seconds. Both are flawless.
"""

from __future__ import annotations

import hashlib
from typing import Any

from open360.pipelines.plan import segments_table
from open360.release.hub_objects import Repo
from open360.release.placement import MAIN, Homes, place
from open360.release.published import published_form
from open360.release.source_code import SourceCode
from open360.schema.layout import checkpoint_folder, chunk_path, evaluation_path, step_table_path, trace_path
from open360.schema.manifest import (
    CheckpointRecord,
    ChunkRecord,
    CorpusRecord,
    FileRecord,
    Manifest,
    Publication,
    RunRecord,
    SourceRecord,
    StageCode,
    TensorDigests,
)
from open360.schema.schedule import checkpoints, learning_rate, segments
from open360.schema.serialization import canonical_json, dump_json, load_spec
from open360.schema.spec import ReleaseSpec
from tests.support.foreign_release import ForeignRelease, amber, put_on_hub
from tests.support.hub_folder import Content, HubFolder, Unstored
from tests.support.page_server import Pages
from tests.support.tiny_release import CORPUS, ROW_LEN, RUN, SPEC

WEIGHT_BYTES = 4_491_000_000
CHUNK_BYTES = 5_000_000_000
STAGES = ("documents", "pack", "tokenizer", "train")


def unstored(name: str, size: int) -> Unstored:
    """A large file that is only listed; its digest follows from the name."""
    return Unstored(bytes=size, sha256=hashlib.sha256(name.encode()).hexdigest())


def put_amber(folder: HubFolder, pages: Pages, count: int) -> bytes:
    """A release in Amber's layout: `count` branches of twelve files, `count` chunks. Returns its spec."""
    small = amber()
    last = f"ckpt_{count - 1:03d}"
    text = small.spec
    for old, new in (
        ("count: 4, rows: 10, total_rows: 40", f"count: {count}, rows: 10, total_rows: {10 * count}"),
        ("tokens: 128, epochs: 1", f"tokens: {32 * count}, epochs: 1"),
        ("tokens: 192, epochs: 1", f"tokens: {48 * count}, epochs: 1"),
        ("horizon: 8}", f"horizon: {2 * count}}}"),
        ("steps: 8", f"steps: {2 * count}"),
        ("chunks: [[0, 3]]", f"chunks: [[0, {count - 1}]]"),
        ("aliases: {main: ckpt_003}", f"aliases: {{main: {last}}}"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    first = small.repos["LLM360/AmberTiny"]["ckpt_000"]
    branches: dict[str, dict[str, Content]] = {}
    for number in range(count):
        name = f"ckpt_{number:03d}"
        branches[name] = {
            **{path: content for path, content in first.items() if not path.endswith(".safetensors")},
            "special_tokens_map.json": b"{}\n",
            "added_tokens.json": b"{}\n",
            "tokenizer.model": unstored("tokenizer", 499_723),
            **{
                f"model-{part:05d}-of-00003.safetensors": unstored(f"{name}/{part}", WEIGHT_BYTES) for part in (1, 2, 3)
            },
            "model.safetensors.index.json": canonical_json({"metadata": {"total_size": 3 * WEIGHT_BYTES}}),
            "optimizer.safetensors": unstored(f"{name}/optimizer", 6 * WEIGHT_BYTES),
        }
    scores = {f"ckpt_{k:03d}": {"acc_norm": 0.25 + 0.5 * k / count} for k in range(count)}
    beside = {p: c for p, c in small.repos["LLM360/AmberTiny"][MAIN].items() if p not in first}
    main: dict[str, Content] = {**branches[last], **beside}
    main["eval_arc.json"] = canonical_json(scores)
    card = small.repos["datasets/LLM360/AmberTinyDatasets"][MAIN]["README.md"]
    chunks: dict[str, Content] = {
        f"train/train_{k:03d}.jsonl": unstored(f"chunk {k}", CHUNK_BYTES) for k in range(count)
    }
    big = ForeignRelease(
        spec=text,
        repos={
            "LLM360/AmberTiny": {MAIN: main, **branches},
            "datasets/LLM360/AmberTinyDatasets": {MAIN: {"README.md": card, **chunks}},
        },
        pages=small.pages,
    )
    return put_on_hub(big, folder, pages)


def put_own(folder: HubFolder, count: int) -> str:
    """A release as open360 publishes it: `count` branches of twelve files, a chunk each. Returns its name."""
    text = SPEC.replace("every: 2", "every: 1").replace("steps: 6", f"steps: {count - 1}")
    text = text.replace("horizon: 6", f"horizon: {count - 1}").replace("model: open360/tiny", "model: lab/tiny")
    text = text.replace("data: open360/tiny-data", "data: lab/tiny-data")
    spec = load_spec(text.encode())
    contents: dict[str, Content] = {"release.yaml": text.encode(), **_documents(spec)}
    for name in ("documents.jsonl.zst", "held_out.jsonl.zst"):
        contents[f"corpora/{CORPUS}/{name}"] = unstored(name, CHUNK_BYTES)
    manifest = _manifest(spec, text.encode(), contents)
    return _publish(folder, spec, manifest, contents)


def _documents(spec: ReleaseSpec) -> dict[str, Content]:
    counts = {"documents": 4, "duplicates": 1, "held_out": 1, "bytes": 112}
    return {
        "constraints.txt": b"numpy==2.4.6\n",
        "segments.json": canonical_json(segments_table(spec)),
        "code.json": canonical_json(dict.fromkeys(STAGES, "1" * 64)),
        f"corpora/{CORPUS}/tokenizer/tokenizer.json": canonical_json({"model": {"type": "BPE", "vocab": {}}}),
        f"corpora/{CORPUS}/counts.json": canonical_json({"sources": {"prose": counts}}),
        f"runs/{RUN}/packing.json": b"{}\n",
    }


def _recorded(contents: dict[str, Content], path: str, inside: str | None = None) -> FileRecord:
    content = contents[path]
    name = inside if inside is not None else path
    if isinstance(content, Unstored):
        return FileRecord(path=name, bytes=content.bytes, sha256=content.sha256)
    return FileRecord(path=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def _checkpoint_files(spec: ReleaseSpec, name: str, position: dict[str, Any]) -> dict[str, Content]:
    config = {**spec.run(RUN).architecture, "architectures": ["LlamaForCausalLM"]}
    return {
        "config.json": canonical_json(config),
        "generation_config.json": canonical_json({"eos_token_id": 0}),
        "tokenizer.json": canonical_json({"model": {"type": "BPE", "vocab": {}}}),
        "tokenizer_config.json": canonical_json({"tokenizer_class": "PreTrainedTokenizerFast"}),
        "special_tokens_map.json": b"{}\n",
        "added_tokens.json": b"{}\n",
        "vocab.json": b"{}\n",
        "merges.txt": b"#version: 0.2\n",
        "model.safetensors": unstored(f"{name}/model", WEIGHT_BYTES),
        "training_state/optimizer.safetensors": unstored(f"{name}/optimizer", 2 * WEIGHT_BYTES),
        "training_state/rng.safetensors": unstored(f"{name}/rng", 5_000),
        "training_state/position.json": canonical_json(position),
    }


def _manifest(spec: ReleaseSpec, spec_bytes: bytes, contents: dict[str, Content]) -> Manifest:
    """The built manifest; adds the files of chunks and checkpoints to `contents`."""
    run, corpus = spec.run(RUN), spec.corpora[0]
    other = list(contents)
    parts = {segment.name: segment for segment in segments(run, corpus)}
    chunk_records, points = [], []
    for segment in parts.values():
        name = f"chunk_{segment.index:03d}"
        file, table = chunk_path(RUN, name), step_table_path(RUN, name)
        contents[file], contents[table] = unstored(file, CHUNK_BYTES), unstored(table, 9_000)
        chunk_records.append(
            ChunkRecord(
                name=name,
                file=_recorded(contents, file),
                step_table=_recorded(contents, table),
                first_step=segment.first_step,
                end_step=segment.end_step,
                first_row=segment.first_row,
                end_row=segment.end_row,
                row_len=ROW_LEN,
                rows_sha256=hashlib.sha256(name.encode()).hexdigest(),
            )
        )
    for plan in checkpoints(run, corpus):
        found = parts.get(plan.name)
        folder = checkpoint_folder(RUN, plan.name)
        weights = hashlib.sha256(f"weights of {plan.name}".encode()).hexdigest()
        position = {"run": RUN, "checkpoint": plan.name, "step": plan.step, "tokens": plan.tokens}
        files = _checkpoint_files(spec, plan.name, position)
        contents.update({f"{folder}/{path}": content for path, content in files.items()})
        trace = None
        if found is not None:
            contents[trace_path(RUN, plan.name)] = f'{{"step": {plan.step - 1}}}\n'.encode()
            trace = _recorded(contents, trace_path(RUN, plan.name))
        metrics = {"loss": 3.4 - plan.step / 10_000, "perplexity": 30.0 - plan.step / 1_000}
        record = canonical_json({"metrics": metrics, "domains": {}})
        contents[evaluation_path(RUN, plan.name)] = record
        other.append(evaluation_path(RUN, plan.name))
        points.append(
            CheckpointRecord(
                name=plan.name,
                step=plan.step,
                tokens=plan.tokens or 0,
                learning_rate=learning_rate(run.schedule, plan.step - 1) if run.schedule and plan.step else None,
                parent=found.parent if found is not None else None,
                chunk=f"chunk_{found.index:03d}" if found is not None else None,
                first_row=found.first_row if found is not None else 0,
                end_row=found.end_row if found is not None else 0,
                holds=("weights", "optimizer", "rng", "position"),
                folder=folder,
                files=tuple(_recorded(contents, f"{folder}/{path}", path) for path in sorted(files)),
                tensors=TensorDigests(weights=weights, optimizer=hashlib.sha256(weights.encode()).hexdigest()),
                trace=trace,
                metrics=metrics,
            )
        )
    tokenizer = _recorded(contents, f"corpora/{CORPUS}/tokenizer/tokenizer.json")
    rows = max(chunk.end_row for chunk in chunk_records)
    source = SourceRecord(name="prose", documents=4, duplicates=1, held_out=1, bytes=112, tokens=rows * ROW_LEN)
    return Manifest(
        open360=1,
        form="built",
        name=spec.name,
        version=spec.version,
        spec_sha256=hashlib.sha256(spec_bytes).hexdigest(),
        environment_sha256=_recorded(contents, "constraints.txt").sha256,
        code=tuple(StageCode(stage=s, sha256="1" * 64) for s in STAGES),
        corpora=(
            CorpusRecord(
                name=CORPUS,
                sources=(source,),
                documents=4,
                duplicates=1,
                held_out=1,
                tokens=rows * ROW_LEN,
                tokenizer_sha256=tokenizer.sha256,
            ),
        ),
        runs=(
            RunRecord(
                name=RUN,
                corpus=CORPUS,
                chunks=tuple(chunk_records),
                checkpoints=tuple(points),
                tokens=rows * (ROW_LEN - 1),
            ),
        ),
        files=tuple(_recorded(contents, path) for path in sorted(other)),
    )


def _publish(folder: HubFolder, spec: ReleaseSpec, manifest: Manifest, contents: dict[str, Content]) -> str:
    """Write everything where `open360 publish` would, the manifest with the tag in a last commit."""
    repos: dict[Repo, dict[str, dict[str, Content]]] = {}
    for file in place(spec, manifest):
        repos.setdefault(file.repo, {}).setdefault(file.revision, {})[file.path] = contents[file.source]
    homes, places = Homes(spec), []
    for repo, branches in repos.items():
        name = f"{'datasets/' if repo.type == 'dataset' else ''}{repo.id}"
        card = (
            b"---\nlicense: apache-2.0\n---\n# Tiny\n" if repo.type == "model" else b"---\nlicense: mit\n---\n# Tiny\n"
        )
        branches.setdefault(MAIN, {})["README.md"] = card
        heads = folder.write(name, branches)
        places += [
            Publication(repo=repo.id, repo_type=repo.type, revision=revision, commit=commit)
            for revision, commit in heads.items()
        ]
    tag = f"v{spec.version}"
    code = SourceCode(commit="2" * 40, dirty=False)
    document = dump_json(published_form(manifest, places, homes, tag, code))
    folder.add(homes.primary.id, MAIN, {"manifest.json": document})
    folder.tag(homes.primary.id, tag, MAIN)
    return homes.primary.id


def calls(traffic: list[dict[str, Any]]) -> dict[str, int]:
    """Requests by route."""
    found: dict[str, int] = {}
    for kind in traffic:
        found[kind["route"]] = found.get(kind["route"], 0) + kind["count"]
    return found
