"""Stage `report`: the tables that `dvc metrics`, `dvc plots` and a reader look at."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

from open360.pipelines.stage import run_stage
from open360.schema.atomic import write_bytes
from open360.schema.layout import MANIFEST_FILE, REPORT_FILE, evaluation_path
from open360.schema.manifest import RunRecord
from open360.schema.serialization import canonical_json, load_manifest, parse_json
from open360.schema.spec import ReleaseSpec

FOLDER = "metrics"


def _csv(rows: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["step"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def training_rows(root: Path, run: RunRecord) -> list[dict[str, Any]]:
    """One row a step, out of the traces (whose hexadecimal floats are exact; these are for the eye)."""
    rows = []
    for checkpoint in run.checkpoints:
        if checkpoint.trace is None:
            continue
        for line in (root / checkpoint.trace.path).read_text().splitlines():
            entry = json.loads(line)
            numbers = {key: f"{float.fromhex(entry[key]):.6g}" for key in ("loss", "grad_norm", "lr")}
            rows.append({"run": run.name, "step": entry["step"], **numbers})
    return rows


def evaluation_rows(root: Path, run: RunRecord) -> list[dict[str, Any]]:
    """One row for each checkpoint and domain."""
    rows = []
    for checkpoint in run.checkpoints:
        path = root / evaluation_path(run.name, checkpoint.name)
        if not path.is_file():
            continue
        record = parse_json(path.read_bytes(), path.name)
        for domain, values in {"all": record["metrics"], **record["domains"]}.items():
            numbers = {key: f"{values[key]:.6g}" for key in ("loss", "perplexity", "bits_per_byte")}
            rows.append({"run": run.name, "step": checkpoint.step, "domain": domain, **numbers})
    return rows


def work(_spec: ReleaseSpec, root: Path, _arguments: list[str]) -> None:
    """Write `metrics/training.csv`, `metrics/evaluation.csv` and `metrics/summary.json`."""
    manifest = load_manifest((root / MANIFEST_FILE).read_bytes())
    report = parse_json((root / REPORT_FILE).read_bytes(), REPORT_FILE)
    training = [row for run in manifest.runs for row in training_rows(root, run)]
    evaluation = [row for run in manifest.runs for row in evaluation_rows(root, run)]
    summary = {
        run.name: {
            "checkpoints": len(run.checkpoints),
            "chunks": len(run.chunks),
            "tokens": run.tokens,
            **{f"final_{name}": value for name, value in run.checkpoints[-1].metrics.items()},
        }
        for run in manifest.runs
    }
    write_bytes(root / FOLDER / "training.csv", _csv(training))
    write_bytes(root / FOLDER / "evaluation.csv", _csv(evaluation))
    content = {"runs": summary, "findings": len(report["findings"]), "level": report["level"]}
    write_bytes(root / FOLDER / "summary.json", canonical_json(content))


if __name__ == "__main__":
    sys.exit(run_stage("report", work, sys.argv[1:]))
