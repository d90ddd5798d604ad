"""What a release holds, at a glance: as data, and as tables for people.

With a manifest the facts are those that were built; without one (a draft, or somebody else's release) those declared.
"""

from __future__ import annotations

import io
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from open360.release.building import rate_of
from open360.release.reports.reporters import printable
from open360.schema.corpus import Corpus
from open360.schema.manifest import CheckpointRecord, CorpusRecord, Manifest, Publication, RunRecord
from open360.schema.run import Parent, Run
from open360.schema.schedule import CheckpointPlan, ScheduleError, checkpoints, tokens_at
from open360.schema.spec import ReleaseSpec

SHOWN_AT_EACH_END = 12
WIDTH = 160


def summarize(spec: ReleaseSpec, manifest: Manifest | None) -> dict[str, Any]:
    """The facts of a release as plain data, ready for JSON; what is not known is None."""
    corpora = {record.name: record for record in manifest.corpora} if manifest is not None else {}
    runs = {record.name: record for record in manifest.runs} if manifest is not None else {}
    return {
        "name": spec.name,
        "version": spec.version,
        "date": spec.date.isoformat() if spec.date is not None else None,
        "description": spec.description,
        "form": manifest.form if manifest is not None else "declared",
        "licenses": spec.licenses.model_dump(mode="json"),
        "repositories": _repositories(spec, manifest),
        "corpora": [_corpus(corpus, corpora.get(corpus.name)) for corpus in spec.corpora],
        "runs": [_run(run, spec.corpus_of(run), runs.get(run.name)) for run in spec.all_runs()],
    }


def _repositories(spec: ReleaseSpec, manifest: Manifest | None) -> list[dict[str, Any]]:
    if manifest is not None and manifest.published is not None:
        return [_publication(entry) for entry in manifest.published.repositories]
    declared = []
    for run in spec.all_runs():
        for repo, kind in ((run.hub.model, "model"), (run.hub.data, "dataset"), (run.hub.optimizer, "model")):
            entry = {"repo": repo, "repo_type": kind, "revision": None, "commit": None}
            if repo is not None and entry not in declared:
                declared.append(entry)
    return declared


def _publication(entry: Publication) -> dict[str, Any]:
    return entry.model_dump(mode="json", include={"repo", "repo_type", "revision", "commit"})


def _corpus(corpus: Corpus, record: CorpusRecord | None) -> dict[str, Any]:
    built = {source.name: source for source in record.sources} if record is not None else {}
    sources = []
    for source in corpus.sources:
        facts = built.get(source.name)
        sources.append(
            {
                "name": source.name,
                "kind": source.kind,
                "license": source.license,
                "domain": source.domain,
                "epochs": source.epochs,
                "documents": facts.documents if facts is not None else source.documents,
                "tokens": facts.tokens if facts is not None else source.tokens,
            }
        )
    return {
        "name": corpus.name,
        "documents": record.documents if record is not None else None,
        "duplicates": record.duplicates if record is not None else None,
        "held_out": record.held_out if record is not None else None,
        "tokens": record.tokens if record is not None else corpus.tokens,
        "sources": sources,
    }


def _run(run: Run, corpus: Corpus | None, record: RunRecord | None) -> dict[str, Any]:
    if record is not None:
        points = [_built_checkpoint(run, checkpoint) for checkpoint in record.checkpoints]
    else:
        points = [_declared_checkpoint(run, corpus, plan) for plan in _plans(run, corpus)]
    return {
        "name": run.name,
        "objective": run.objective,
        "parent": _parent(run.parent),
        "corpus": run.corpus,
        "parameters": run.parameters,
        "order": run.order.kind,
        "determinism": run.determinism,
        "steps": run.steps,
        "tokens": record.tokens if record is not None else _tokens(run, corpus),
        "chunks": [
            {
                "name": chunk.name,
                "first_step": chunk.first_step,
                "end_step": chunk.end_step,
                "rows": chunk.rows,
                "bytes": chunk.file.bytes,
            }
            for chunk in (record.chunks if record is not None else ())
        ],
        "checkpoints": points,
    }


def _parent(parent: Parent | None) -> str | None:
    if parent is None:
        return None
    point = parent.checkpoint or (f"step {parent.step}" if parent.step is not None else "final")
    return f"{parent.release + '/' if parent.release else ''}{parent.run}@{point}"


def _plans(run: Run, corpus: Corpus | None) -> list[CheckpointPlan]:
    try:
        return checkpoints(run, corpus)
    except ScheduleError:
        return []


def _tokens(run: Run, corpus: Corpus | None) -> int | None:
    try:
        return tokens_at(run, corpus, run.steps) if run.steps is not None else None
    except ScheduleError:
        return None


def _built_checkpoint(run: Run, checkpoint: CheckpointRecord) -> dict[str, Any]:
    published = checkpoint.published
    return {
        "name": checkpoint.name,
        "step": checkpoint.step,
        "tokens": checkpoint.tokens,
        "learning_rate": checkpoint.learning_rate,
        "parent": checkpoint.parent,
        "chunk": checkpoint.chunk,
        "holds": list(checkpoint.holds),
        "bytes": sum(file.bytes for file in checkpoint.files),
        "metrics": dict(checkpoint.metrics),
        "repo": published.repo if published is not None else run.hub.model,
        "revision": published.revision if published is not None else None,
        "commit": published.commit if published is not None else None,
    }


def _declared_checkpoint(run: Run, corpus: Corpus | None, plan: CheckpointPlan) -> dict[str, Any]:
    try:
        rate = rate_of(run, corpus, plan.step - 1) if plan.step else None
    except ScheduleError:
        rate = None
    return {
        "name": plan.name,
        "step": plan.step,
        "tokens": plan.tokens,
        "learning_rate": rate,
        "parent": None,
        "chunk": None,
        "holds": [],
        "bytes": None,
        "metrics": {},
        "repo": run.hub.model,
        "revision": plan.revision,
        "commit": None,
    }


def summary_text(summary: dict[str, Any]) -> str:
    """The facts of `summarize` as tables; long series show both ends."""
    out = io.StringIO()
    console = Console(file=out, width=WIDTH, no_color=True, highlight=False)
    date = f", {summary['date']}" if summary["date"] else ""
    console.print(Text(printable(f"{summary['name']} {summary['version']} ({summary['form']}{date})")))
    if summary["description"]:
        console.print(Text(printable(summary["description"])), soft_wrap=True)
    licenses = [f"{part} {found}" for part, found in summary["licenses"].items() if found]
    console.print(Text(printable(f"licences: {', '.join(licenses) or 'none declared'}")))
    for entry in summary["repositories"]:
        at = f" at {entry['revision']} ({entry['commit'][:12]})" if entry["commit"] else ""
        console.print(Text(printable(f"{entry['repo_type']} repository {entry['repo']}{at}")))
    for corpus in summary["corpora"]:
        _print_corpus(console, corpus)
    for run in summary["runs"]:
        _print_run(console, run)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def _print_table(console: Console, title: str, columns: list[tuple[str, bool]], rows: list[list[str]]) -> None:
    """A table of text; `columns` are names and whether they hold numbers. Columns without content are left out."""
    console.print()
    console.print(Text(printable(title)), soft_wrap=True)
    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD)
    kept = [index for index in range(len(columns)) if index == 0 or any(row[index] for row in rows)]
    for index in kept:
        name, is_number = columns[index]
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(row[index])) for index in kept))
    console.print(table)


def _print_corpus(console: Console, corpus: dict[str, Any]) -> None:
    counts = [f"{_number(corpus[key])} {key.replace('_', ' ')}" for key in ("documents", "tokens") if corpus[key]]
    title = ", ".join([f"corpus {corpus['name']}", *counts])
    texts, numbers = ("name", "kind", "license", "domain"), ("epochs", "documents", "tokens")
    rows = [
        [*(source[key] or "" for key in texts), *(_number(source[key]) for key in numbers)]
        for source in corpus["sources"]
    ]
    columns = [("source", False), ("kind", False), ("licence", False), ("domain", False)]
    _print_table(console, title, [*columns, *((key, True) for key in numbers)], rows)


def _print_run(console: Console, run: dict[str, Any]) -> None:
    facts = [f"run {run['name']}: {run['objective']}"]
    facts += [f"from {run['parent']}"] if run["parent"] else []
    facts += [f"{_number(run[key])} {key}" for key in ("parameters", "steps", "tokens") if run[key]]
    facts.append(f"order {run['order']}")
    if run["chunks"]:
        size = sum(chunk["bytes"] for chunk in run["chunks"])
        rows = sum(chunk["rows"] for chunk in run["chunks"])
        facts.append(f"{len(run['chunks'])} chunks of {_number(rows)} rows, {_number(size)} bytes")
    names = sorted({name for point in run["checkpoints"] for name in point["metrics"]})
    columns = [("checkpoint", False), ("step", True), ("tokens", True), ("learning rate", True), ("chunk", False)]
    columns += [("holds", False), *((name, True) for name in names), ("revision", False), ("commit", False)]
    rows = [_point_row(point, names) for point in run["checkpoints"]]
    left_out = len(rows) - 2 * SHOWN_AT_EACH_END
    if left_out > 1:
        gap = [f"… {left_out} more", *[""] * (len(columns) - 1)]
        rows = [*rows[:SHOWN_AT_EACH_END], gap, *rows[-SHOWN_AT_EACH_END:]]
    _print_table(console, ", ".join(facts), columns, rows)


def _point_row(point: dict[str, Any], names: list[str]) -> list[str]:
    rate = point["learning_rate"]
    return [
        point["name"],
        _number(point["step"]),
        _number(point["tokens"]),
        f"{rate:.3g}" if rate is not None else "",
        point["chunk"] or "",
        "+".join(point["holds"]),
        *(f"{point['metrics'][name]:.4g}" if name in point["metrics"] else "" for name in names),
        point["revision"] or "",
        (point["commit"] or "")[:12],
    ]


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""
