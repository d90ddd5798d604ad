"""Cards: the `README.md` of a model and of a data repository, made of the spec and the built manifest alone.

A card holds no date, no commit and nothing observed: equal releases give equal bytes. The front matter is written as
one JSON value a line, which is YAML, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from open360.release.hub_objects import Repo
from open360.release.placement import Homes, last_checkpoint
from open360.schema.layout import path_in_data_repo
from open360.schema.manifest import CorpusRecord, Manifest, RunRecord
from open360.schema.run import Run
from open360.schema.spec import ReleaseSpec

MAX_TABLE_ROWS = 400
# Licence ids that the Hub knows by their SPDX id in small letters; all others are 'other' with a name.
HUB_LICENSES = frozenset(
    {"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"}
    | {"odc-by", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "isc", "unlicense", "artistic-2.0", "zlib", "ecl-2.0"}
)
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def model_card(spec: ReleaseSpec, manifest: Manifest, run_name: str, homes: Homes) -> bytes:
    """The card of a run's model repository."""
    run, record = spec.run(run_name), manifest.run(run_name)
    repo, tag = homes.model(run_name), f"v{spec.version}"
    front: dict[str, object] = {**_license(spec.licenses.weights), "library_name": "transformers"}
    front["pipeline_tag"] = "text-generation"
    front["tags"] = ["open360", "fully-open", "checkpoints", run.objective]
    if record.chunks:
        front["datasets"] = [homes.data(run_name).id]
    parent = _parent_repo(run, homes)
    if parent is not None:
        front["base_model"] = parent
    parts = [
        f"# {repo.id.split('/')[1]}",
        spec.description or "",
        _facts(spec, run, record),
        "## Load a checkpoint",
        "Every checkpoint is a revision of its own, with the weights, the optimizer state, the state of the random "
        "numbers and the position in the data; `main` holds the weights of the last one.",
        _load_example(repo, record, homes),
        "## Get the data that a checkpoint saw",
        f"All of it is in [{homes.data(run_name).id}](https://huggingface.co/datasets/{homes.data(run_name).id}), "
        "in training order, one chunk a segment." if record.chunks else "",
        _pull_example(homes.primary, tag, record),
        "## Checkpoints",
        _checkpoint_table(record),
        _where_to_check(homes, repo, tag),
        _citation(spec),
    ]  # fmt: skip
    return _card(front, parts)


def data_card(spec: ReleaseSpec, manifest: Manifest, repo: Repo, homes: Homes) -> bytes:
    """The card of a data repository. `datasets.load_dataset(repo, revision=tag)` reads its chunks."""
    runs = [run for run in manifest.runs if run.chunks and homes.data(run.name) == repo]
    corpora = [corpus for corpus in manifest.corpora if any(run.corpus == corpus.name for run in runs)]
    rows = sum(chunk.rows for run in runs for chunk in run.chunks)
    tag = f"v{spec.version}"
    front: dict[str, object] = {
        **_license(spec.licenses.data),
        "tags": ["open360", "fully-open", "training-data"],
        "task_categories": ["text-generation"],
        "size_categories": [next((name for limit, name in SIZES if rows < limit), "n>10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": _chunk_files(runs)}]}],
    }
    parts = [
        f"# {repo.id.split('/')[1]}",
        f"The training data of [{homes.primary.id}](https://huggingface.co/{homes.primary.id}) {spec.version}: "
        f"{rows:,} rows in training order.",
        *(_corpus_table(corpus) for corpus in corpora),
        "## Columns",
        "`row` (number of the row in the run), `step` (0-based batch that trains on it), `token_ids`, and `documents`: "
        "which documents the row holds (`source`, `id`, `start` in the row, `length`, `offset` in the document). "
        "Each file in `steps/` tells, for every batch, its rows, its byte range in the chunk, and digests of both.",
        "## Read it",
        _code(
            "python", f'import datasets\n\nrows = datasets.load_dataset("{repo.id}", revision="{tag}", split="train")'
        ),
        *(_pull_example(homes.primary, tag, run) for run in runs[:1]),
        *(_chunk_table(run) for run in runs),
        _where_to_check(homes, repo, tag),
        _citation(spec),
    ]
    return _card(front, parts)


def _card(front: Mapping[str, object], parts: Sequence[str]) -> bytes:
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in front.items()]
    body = "\n\n".join(part.strip() for part in parts if part.strip())
    return ("---\n" + "\n".join(lines) + f"\n---\n\n{body}\n").encode()


def _license(spdx: str | None) -> dict[str, object]:
    if spdx is None:
        return {"license": "unknown"}
    ids = [part.strip().lower() for part in re.split(r"\bAND\b", spdx)]
    if all(part in HUB_LICENSES for part in ids):
        return {"license": ids[0] if len(ids) == 1 else ids}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", spdx.lower()).strip("-")}


def _chunk_files(runs: Sequence[RunRecord]) -> str | list[str]:
    """A glob when it gives the files in training order, else their list."""
    paths = [path_in_data_repo(chunk.file.path) for run in runs for chunk in run.chunks]
    return "chunks/*.parquet" if paths == sorted(paths) else paths


def _parent_repo(run: Run, homes: Homes) -> str | None:
    if run.parent is None:
        return None
    return run.parent.release if run.parent.release is not None else homes.model(run.parent.run).id


def _facts(spec: ReleaseSpec, run: Run, record: RunRecord) -> str:
    facts = {
        "objective": run.objective,
        "parameters": f"{run.parameters:,}" if run.parameters else None,
        "tokens": f"{record.tokens:,}",
        "steps": f"{run.steps:,}" if run.steps else None,
        "corpus": record.corpus,
        "checkpoints": str(len(record.checkpoints)),
        "licence of the weights": spec.licenses.weights,
        "licence of the code": spec.licenses.code,
    }
    return _table(["", ""], [[key, value] for key, value in facts.items() if value is not None])


def _load_example(repo: Repo, record: RunRecord, homes: Homes) -> str:
    last = last_checkpoint(record)
    name = homes.revisions(record.name).get(last.name, last.name) if last is not None else "main"
    return _code(
        "python",
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{repo.id}", revision="{name}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{repo.id}", revision="{name}")',
    )


def _pull_example(primary: Repo, tag: str, record: RunRecord) -> str:
    last = last_checkpoint(record)
    if last is None or not record.chunks:
        return ""
    return _code(
        "sh",
        f"open360 pull {primary.id} --tag {tag} --checkpoint {last.name} --what data -o {last.name}-data\n"
        f"open360 pull {primary.id} --tag {tag} --step {record.chunks[-1].first_step} -o one-batch",
    )


def _checkpoint_table(record: RunRecord) -> str:
    losses = any("loss" in checkpoint.metrics for checkpoint in record.checkpoints)
    header = [
        "checkpoint",
        "step",
        "tokens",
        *(["held-out loss"] if losses else []),
        "data",
        "weights (tensors digest)",
    ]
    rows = [
        [
            checkpoint.name,
            f"{checkpoint.step:,}",
            f"{checkpoint.tokens:,}",
            *([f"{checkpoint.metrics['loss']:.4f}" if "loss" in checkpoint.metrics else ""] if losses else []),
            checkpoint.chunk or "",
            f"`{checkpoint.tensors.weights[:16]}…`",
        ]
        for checkpoint in record.checkpoints
    ]
    return _table(header, rows)


def _corpus_table(corpus: CorpusRecord) -> str:
    rows = [
        [s.name, f"{s.documents:,}", f"{s.duplicates:,}", f"{s.held_out:,}", f"{s.tokens:,}"] for s in corpus.sources
    ]
    header = ["source", "documents", "duplicates dropped", "held out", "tokens of an epoch"]
    return f"## Corpus {corpus.name}\n\n" + _table(header, rows)


def _chunk_table(run: RunRecord) -> str:
    rows = [
        [
            path_in_data_repo(chunk.file.path),
            f"{chunk.first_step:,} … {chunk.end_step - 1:,}",
            f"{chunk.rows:,}",
            f"`{chunk.rows_sha256[:16]}…`",
        ]
        for chunk in run.chunks
    ]
    return f"## Chunks of run {run.name}\n\n" + _table(["file", "batches", "rows", "rows digest"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    left_out = len(rows) - MAX_TABLE_ROWS
    shown = rows if left_out <= 0 else [*rows[: MAX_TABLE_ROWS // 2], *rows[-MAX_TABLE_ROWS // 2 :]]
    lines = [_table_row(header), "|" + " --- |" * len(header), *(_table_row(row) for row in shown)]
    if left_out > 0:
        lines.append(f"\n({left_out} rows in the middle are left out; all are in `manifest.json`.)")
    return "\n".join(lines)


def _table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def _where_to_check(homes: Homes, repo: Repo, tag: str) -> str:
    start = f"[`manifest.json`](https://huggingface.co/{homes.primary.id}/blob/{tag}/manifest.json)"
    where = "" if repo == homes.primary else f" of {homes.primary.id}"
    return (
        f"## Check it\n\nStart from the tag `{tag}`: {start}{where} names the commit and the digests of everything.\n\n"
        + _code("sh", f"open360 validate {homes.primary.id} --tag {tag}")
    )


def _citation(spec: ReleaseSpec) -> str:
    authors = ", ".join(author.name for author in spec.authors)
    parts = [f"Authors: {authors}." if authors else "", _code("bibtex", spec.citation) if spec.citation else ""]
    text = "\n\n".join(part for part in parts if part)
    return f"## Authors and citation\n\n{text}" if text else ""
