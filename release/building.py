"""Building the manifest: what the spec declares, joined with what lies in the release folder.

The built form holds content only: equal files give equal bytes, whoever builds it, wherever and whenever. What a
checkpoint *is* comes from the spec (step, rows, learning rate); what it *holds* comes from the files. Whether the two
agree is not judged here but by the rules, on any manifest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from open360.release.hash_cache import CACHE_PATH, HashCache
from open360.release.hashing import TENSOR_SUFFIX, FileDigest, Progress, hash_files, tensors_digest_of
from open360.schema.corpus import Corpus
from open360.schema.errors import Open360Error
from open360.schema.layout import (
    CODE_FILE,
    SEGMENTS_FILE,
    SPEC_FILE,
    checkpoint_folder,
    chunk_name,
    chunk_path,
    corpus_folder,
    evaluation_path,
    run_folder,
    step_table_path,
    trace_path,
)
from open360.schema.manifest import (
    CheckpointRecord,
    ChunkRecord,
    CorpusRecord,
    FileRecord,
    Manifest,
    RunRecord,
    SourceRecord,
    StageCode,
    TensorDigests,
)
from open360.schema.model import ManifestModel
from open360.schema.names import Count, Name, Sha256
from open360.schema.run import Run
from open360.schema.schedule import (
    CheckpointPlan,
    Segment,
    checkpoints,
    learning_rate,
    segments,
    seq_len_of,
    tokens_at,
)
from open360.schema.serialization import load_json_model
from open360.schema.spec import ReleaseSpec

OPTIMIZER_FILE = "training_state/optimizer.safetensors"
RNG_FILE = "training_state/rng.safetensors"
POSITION_FILE = "training_state/position.json"
TOKENIZER_FILE = "tokenizer/tokenizer.json"
SOURCES_FOLDER = "sources"

ModelT = TypeVar("ModelT", bound=BaseModel)
_STATE = re.compile(r"optim|rng|random_state|scheduler|scaler|training_args|train_state")


class SourceCounts(ManifestModel):
    """Documents of a source: trained on, dropped as duplicates, held out; bytes of text trained on."""

    documents: Count
    duplicates: Count
    held_out: Count
    bytes: Count


class Counts(ManifestModel):
    """`corpora/<corpus>/counts.json`."""

    sources: dict[str, SourceCounts]


class PackedSource(ManifestModel):
    """Ids that one epoch of a source has, separators included."""

    tokens: Count


class PackedChunk(ManifestModel):
    """A chunk: the digest of its rows."""

    rows_sha256: Sha256


class Packing(ManifestModel):
    """`runs/<run>/packing.json`."""

    chunks: dict[Name, PackedChunk]
    sources: dict[str, PackedSource]
    tokens_left_over: Count


class EvaluationResult(ManifestModel):
    """`runs/<run>/evaluations/<checkpoint>.json`: the metrics over all domains."""

    metrics: dict[str, float]


class MissingPartError(Open360Error):
    """A part of the release that the spec declares has not been built."""

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        super().__init__(f"{path}: expected {what}, found nothing; run 'dvc repro' to build it")


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """The release folder with the digests of its files."""

    root: Path
    digests: Mapping[str, FileDigest]

    def record(self, path: str, what: str, relative_to: str = "") -> FileRecord:
        digest = self.digests.get(path)
        if digest is None:
            raise MissingPartError(path, what)
        return FileRecord(path=path.removeprefix(relative_to), bytes=digest.bytes, sha256=digest.sha256)

    def below(self, folder: str) -> list[str]:
        return [path for path in self.digests if path.startswith(f"{folder}/")]

    def document(self, model: type[ModelT], path: str, what: str) -> ModelT:
        file = self.root / path
        if not file.is_file():
            raise MissingPartError(path, what)
        return load_json_model(model, file.read_bytes(), path)

    def packing(self, run: Run) -> Packing:
        return self.document(Packing, f"{run_folder(run.name)}/packing.json", f"the packing of run '{run.name}'")


def build_manifest(
    spec: ReleaseSpec,
    root: Path,
    *,
    spec_bytes: bytes,
    code: Mapping[str, str],
    digests: Mapping[str, FileDigest] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """The built manifest of the release folder `root`.

    Args:
        spec_bytes: the bytes of the spec, as they lie in the folder.
        code: digest of the code by pipeline stage.
        digests: of all files of the release, by path, where they are known; the files are read when None.
    Raises:
        MissingPartError: something that the spec declares has not been built.
        SpecError, IntegrityError: a generated document in the folder is malformed.
        ScheduleError: the spec does not say enough about a run.
    """
    folder = _Folder(root=root, digests=digests if digests is not None else _digests(spec, root, progress))
    return Manifest(
        open360=1,
        form="built",
        name=spec.name,
        version=spec.version,
        spec_sha256=_sha256(spec_bytes),
        environment_sha256=_environment(spec, folder),
        code=tuple(StageCode(stage=stage, sha256=sha256) for stage, sha256 in sorted(code.items())),
        corpora=tuple(_corpus(spec, corpus, folder) for corpus in spec.corpora),
        runs=tuple(_run(spec, run, folder) for run in spec.all_runs()),
        files=tuple(folder.record(path, "a file") for path in _other_files(spec, folder)),
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digests(spec: ReleaseSpec, root: Path, progress: Progress | None) -> dict[str, FileDigest]:
    """Digests of every file that belongs to the release, by its path."""
    paths = [SPEC_FILE, SEGMENTS_FILE, CODE_FILE, *(code.lock for code in spec.code if code.lock is not None)]
    found = [root / path for path in dict.fromkeys(paths) if (root / path).is_file()]
    for corpus in spec.corpora:
        folder = root / corpus_folder(corpus.name)
        found += [path for path in _walk(folder) if path.relative_to(folder).parts[0] != SOURCES_FOLDER]
    for run in spec.all_runs():
        found += _walk(root / run_folder(run.name))
    cache = HashCache(root / CACHE_PATH, root)
    return {
        path.relative_to(root).as_posix(): digest for path, digest in hash_files(found, cache=cache, progress=progress)
    }


def _walk(folder: Path) -> list[Path]:
    """Files below `folder` in order, hidden ones left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            found.append(path)
    return found


def _environment(spec: ReleaseSpec, folder: _Folder) -> str | None:
    lock = next((code.lock for code in spec.code if code.lock is not None), None)
    return folder.record(lock, "the lock of the environment").sha256 if lock is not None else None


def _other_files(spec: ReleaseSpec, folder: _Folder) -> Iterable[str]:
    """Paths of all files that belong to no chunk, no checkpoint and no trace."""
    taken = tuple(
        f"{run_folder(run.name)}/{part}/"
        for run in spec.all_runs()
        for part in ("chunks", "steps", "checkpoints", "traces")
    )
    return sorted(path for path in folder.digests if not path.startswith(taken))


def _corpus(spec: ReleaseSpec, corpus: Corpus, folder: _Folder) -> CorpusRecord:
    base = corpus_folder(corpus.name)
    counts = folder.document(Counts, f"{base}/counts.json", f"the counts of corpus '{corpus.name}'")
    packings = [folder.packing(run) for run in spec.all_runs() if run.corpus == corpus.name]
    tokens = packings[0].sources if packings else {}
    sources = []
    for name in (source.name for source in corpus.sources):
        if name not in counts.sources:
            raise MissingPartError(f"{base}/counts.json", f"the counts of source '{name}'")
        found = counts.sources[name]
        sources.append(
            SourceRecord(
                name=name,
                documents=found.documents,
                duplicates=found.duplicates,
                held_out=found.held_out,
                bytes=found.bytes,
                tokens=tokens[name].tokens if name in tokens else 0,
            )
        )
    return CorpusRecord(
        name=corpus.name,
        sources=tuple(sources),
        documents=sum(source.documents for source in sources),
        duplicates=sum(source.duplicates for source in sources),
        held_out=sum(source.held_out for source in sources),
        tokens=sum(source.tokens for source in sources),
        tokenizer_sha256=folder.record(f"{base}/{TOKENIZER_FILE}", "the tokenizer").sha256,
    )


def _run(spec: ReleaseSpec, run: Run, folder: _Folder) -> RunRecord:
    corpus = spec.corpus_of(run)
    parts = segments(run, corpus)
    by_name = {segment.name: segment for segment in parts}
    plans = checkpoints(run, corpus)
    packing = folder.packing(run) if corpus is not None else None
    chunks = [_chunk(run, corpus, part, folder, packing) for part in parts] if corpus and packing else []
    return RunRecord(
        name=run.name,
        corpus=run.corpus,
        chunks=tuple(chunks),
        checkpoints=tuple(_checkpoint(run, corpus, plan, by_name.get(plan.name), folder) for plan in plans),
        tokens=tokens_at(run, corpus, run.steps or (parts[-1].end_step if parts else 0)),
        tokens_left_over=packing.tokens_left_over if packing is not None else 0,
    )


def _chunk(run: Run, corpus: Corpus, segment: Segment, folder: _Folder, packing: Packing) -> ChunkRecord:
    name = chunk_name(segment.index)
    if name not in packing.chunks:
        raise MissingPartError(f"{run_folder(run.name)}/packing.json", f"the digest of '{name}'")
    if corpus.row is None:
        raise MissingPartError(SPEC_FILE, f"'row' of corpus '{corpus.name}'")
    return ChunkRecord(
        name=name,
        file=folder.record(chunk_path(run.name, name), f"the rows of segment '{segment.name}'"),
        step_table=folder.record(step_table_path(run.name, name), f"the step table of '{name}'"),
        first_step=segment.first_step,
        end_step=segment.end_step,
        first_row=segment.first_row,
        end_row=segment.end_row,
        row_len=corpus.row.row_len,
        rows_sha256=packing.chunks[name].rows_sha256,
    )


def _checkpoint(
    run: Run, corpus: Corpus | None, plan: CheckpointPlan, segment: Segment | None, folder: _Folder
) -> CheckpointRecord:
    base = checkpoint_folder(run.name, plan.name)
    files = tuple(
        folder.record(path, "a file of the checkpoint", relative_to=f"{base}/") for path in folder.below(base)
    )
    trace = trace_path(run.name, plan.name)
    end_row = segment.end_row if segment is not None else 0
    return CheckpointRecord(
        name=plan.name,
        step=plan.step,
        tokens=tokens_at(run, corpus, plan.step),
        learning_rate=rate_of(run, corpus, plan.step - 1) if plan.step else None,
        parent=segment.parent if segment is not None else None,
        chunk=chunk_name(segment.index) if segment is not None and corpus is not None else None,
        first_row=segment.first_row if segment is not None else end_row,
        end_row=end_row,
        holds=parts_held(record.path for record in files),
        folder=base,
        files=files,
        tensors=_tensor_digests(base, folder),
        trace=folder.record(trace, f"the trace of '{plan.name}'") if segment is not None else None,
        metrics=_metrics(run, plan, folder),
    )


def rate_of(run: Run, corpus: Corpus | None, step: int) -> float | None:
    """Learning rate of batch `step` as the spec declares it; None when the run declares no schedule."""
    if run.schedule is None:
        return None
    tokens = run.batch.at(step) * seq_len_of(run, corpus) if run.schedule.unit == "tokens" and run.batch else None
    return learning_rate(run.schedule, step, steps=run.steps, tokens_per_step=tokens)


def parts_held(paths: Iterable[str]) -> tuple[Literal["weights", "optimizer", "rng", "position"], ...]:
    """What a checkpoint with these files holds."""
    there = set(paths)
    found: list[Literal["weights", "optimizer", "rng", "position"]] = []
    if weight_files(there):
        found.append("weights")
    if OPTIMIZER_FILE in there:
        found.append("optimizer")
    if RNG_FILE in there:
        found.append("rng")
    if POSITION_FILE in there:
        found.append("position")
    return tuple(found)


def weight_files(paths: Iterable[str]) -> list[str]:
    """Those of a checkpoint's files that hold weights: safetensors files at the top of its folder."""
    return sorted(path for path in paths if "/" not in path and path.endswith(TENSOR_SUFFIX) and not is_state(path))


def is_state(name: str) -> bool:
    """Whether a file is called like what a trainer keeps beside the weights: optimizer, generators, arguments."""
    return _STATE.search(name) is not None


def _tensor_digests(base: str, folder: _Folder) -> TensorDigests:
    paths = [f"{base}/{path}" for path in weight_files(p.removeprefix(f"{base}/") for p in folder.below(base))]
    if not paths:
        raise MissingPartError(f"{base}/model{TENSOR_SUFFIX}", "weights")
    optimizer = folder.digests.get(f"{base}/{OPTIMIZER_FILE}")
    weights = folder.digests[paths[0]].tensors
    if weights is None or len(paths) > 1:
        weights = tensors_digest_of([folder.root / path for path in paths])
    if optimizer is not None and optimizer.tensors is None:
        tensors_digest_of([folder.root / base / OPTIMIZER_FILE])  # raises, and says what is wrong with the file
    return TensorDigests(weights=weights, optimizer=optimizer.tensors if optimizer is not None else None)


def _metrics(run: Run, plan: CheckpointPlan, folder: _Folder) -> dict[str, float]:
    path = evaluation_path(run.name, plan.name)
    if path not in folder.digests:
        return {}
    return folder.document(EvaluationResult, path, "an evaluation").metrics
