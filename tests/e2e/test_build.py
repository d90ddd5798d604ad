"""`open360 init` and `dvc repro`: what runs again, and what does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from open360.release.corpus.chunk_file import Batch, Group, write_chunk
from tests.e2e.conftest import must, run


def test_a_new_release_builds_and_validates_at_once(built_once: Path) -> None:
    assert "0 errors" in must("open360", "validate", ".", cwd=built_once)
    report = json.loads((built_once / "report.json").read_bytes())
    assert report["level"] == "loaded"


def test_a_second_repro_runs_nothing(built_once: Path) -> None:
    assert "Running stage" not in must("dvc", "repro", cwd=built_once)


def test_a_lost_workspace_is_restored_from_the_cache_without_running(built: Path) -> None:
    lock = (built / "dvc.lock").read_bytes()
    shutil.rmtree(built / "runs")
    shutil.rmtree(built / "corpora")
    assert "Running stage" not in must("dvc", "repro", cwd=built)
    assert (built / "dvc.lock").read_bytes() == lock
    must("open360", "validate", ".", cwd=built)


def test_changing_an_author_runs_no_training(built: Path) -> None:
    spec = built / "release.yaml"
    spec.write_text(spec.read_text().replace("Your name", "Ada"))
    output = must("dvc", "repro", cwd=built)
    assert "train@" not in "".join(line for line in output.splitlines() if line.startswith("Running stage"))
    assert "Running stage 'manifest'" in output


def test_an_edited_local_source_builds_again(built: Path) -> None:
    (built / "text" / "more.md").write_text("# More\n\nA text that was not there before, with words of its own.\n")
    done = run("dvc", "status", "sources@sample", cwd=built)
    assert "text" in done.stdout
    output = must("dvc", "repro", "documents@sample", cwd=built)
    assert "Running stage 'documents@sample'" in output


def test_a_stale_table_stops_the_build_and_names_the_command(built: Path) -> None:
    spec = built / "release.yaml"
    spec.write_text(spec.read_text().replace("peak: 3.0e-3", "peak: 2.0e-3"))
    done = run("dvc", "repro", "--force", "--single-item", "pack@tiny-lm", cwd=built)
    assert done.returncode != 0
    assert "python -P -m open360.pipelines.plan" in done.stdout + done.stderr


@pytest.mark.long
def test_a_longer_run_trains_only_its_new_segment(built: Path) -> None:
    spec = built / "release.yaml"
    spec.write_text(spec.read_text().replace("steps: 24", "steps: 32"))
    must("python", "-P", "-m", "open360.pipelines.plan", cwd=built)
    output = must("dvc", "repro", cwd=built)
    ran = [line for line in output.splitlines() if line.startswith("Running stage 'train@")]
    assert ran == ["Running stage 'train@ckpt_003':"]


@pytest.mark.long
def test_changing_a_later_chunk_trains_only_from_there(built: Path) -> None:
    chunk = built / "runs/tiny-lm/chunks/chunk_001.parquet"
    table = pq.read_table(chunk)
    other = table["token_ids"].combine_chunks()[::-1]
    table = table.set_column(2, table.schema.field(2), pa.array(other.to_pylist(), table.schema.field(2).type))
    batches = [Batch(step=step, first_row=2 * step, end_row=2 * step + 2) for step in range(8, 16)]
    for path in (chunk, built / "runs/tiny-lm/steps/chunk_001.parquet"):
        path.unlink()
    write_chunk(chunk, built / "runs/tiny-lm/steps/chunk_001.parquet", [Group(batches=batches, table=table)], "uint16")
    must("dvc", "commit", "--force", "pack@tiny-lm", cwd=built)
    output = must("dvc", "repro", "train@ckpt_002", cwd=built)
    ran = [line for line in output.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'train@ckpt_001':", "Running stage 'train@ckpt_002':"]


@pytest.mark.long
def test_a_longer_schedule_trains_everything_again(built: Path) -> None:
    spec = built / "release.yaml"
    spec.write_text(spec.read_text().replace("horizon: 24", "horizon: 48"))
    must("python", "-P", "-m", "open360.pipelines.plan", cwd=built)
    output = must("dvc", "repro", cwd=built)
    assert sum(line.startswith("Running stage 'train@") for line in output.splitlines()) == 3


def test_metrics_and_plots_show_the_losses(built_once: Path) -> None:
    shown = json.loads(must("dvc", "metrics", "show", "--json", cwd=built_once))
    assert shown[""]["data"]["metrics/summary.json"]["data"]["runs"]["tiny-lm"]["checkpoints"] == 4
    must("dvc", "plots", "show", "--show-vega", "metrics/training.csv", cwd=built_once)


def test_init_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    done = run("open360", "init", "used", cwd=tmp_path)
    assert done.returncode == 2
    assert "new or empty folder" in done.stderr
    assert [p.name for p in (tmp_path / "used").iterdir()] == ["file"]
