"""Pythia: checkpoints, and the arithmetic of its preshuffled rows."""

from __future__ import annotations

import re

import pytest

from open360.release import catalogue
from open360.schema.corpus import FileSet, RowFormat
from open360.schema.run import Run
from open360.schema.schedule import checkpoints, find_checkpoint, learning_rate, segment_of_step, tokens_at
from open360.schema.spec import ReleaseSpec

SIZES = ["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"]


@pytest.fixture(scope="module")
def spec() -> ReleaseSpec:
    return catalogue.load("pythia")


@pytest.fixture(scope="module")
def run(spec: ReleaseSpec) -> Run:
    return spec.run("pythia-70m-deduped")


@pytest.fixture(scope="module")
def data(spec: ReleaseSpec, run: Run) -> tuple[RowFormat, FileSet]:
    corpus = spec.corpus_of(run)
    assert corpus is not None
    assert corpus.row is not None
    assert corpus.files is not None
    return corpus.row, corpus.files


def test_all_sizes_are_there_with_and_without_deduplication(spec: ReleaseSpec) -> None:
    names = {run.name for run in spec.all_runs()}
    wanted = {f"pythia-{size}" for size in SIZES} | {f"pythia-{size}-deduped" for size in SIZES[2:]}
    wanted |= {f"pythia-{size}-seed{seed}" for size in SIZES[:5] for seed in range(1, 10)}
    wanted |= {f"pythia-160m-{part}-seed{seed}" for part in ("data", "weight") for seed in (1, 2, 3)}
    wanted |= {f"pythia-{size}{kind}-v0" for size in ("160m", "410m", "1.4b") for kind in ("", "-deduped")}
    assert names == wanted
    assert len(spec.all_runs()) == 18 + 45 + 6 + 6


def test_every_model_has_154_checkpoints_named_by_step(spec: ReleaseSpec) -> None:
    pattern = re.compile(r"^step(0|1|2|4|8|16|32|64|128|256|512|[1-9]\d*000)$")
    for size in SIZES:
        run = spec.run(f"pythia-{size}")
        plans = checkpoints(run, spec.corpus_of(run))
        assert len(plans) == 154
        assert all(pattern.match(plan.name) and plan.name == f"step{plan.step}" for plan in plans)
        assert (plans[0].step, plans[-1].step) == (0, 143_000)
        assert find_checkpoint(run, "main").name == "step143000"


def test_a_step_is_2_097_152_tokens(spec: ReleaseSpec, run: Run) -> None:
    corpus = spec.corpus_of(run)
    assert tokens_at(run, corpus, 1) == 2_097_152
    assert tokens_at(run, corpus, 143_000) == 299_892_736_000
    assert find_checkpoint(run, "step1000", corpus).tokens == 2_097_152_000


def test_the_files_hold_all_rows_of_the_run_and_nothing_else(run: Run, data: tuple[RowFormat, FileSet]) -> None:
    row, files = data
    assert files.total_bytes == 600_078_336_000
    assert files.total_rows == 146_432_000 == 1024 * 143_000
    assert row.row_len * 2 * files.total_rows == files.total_bytes
    assert files.file(20) == "document-00020-of-00020.bin"
    assert list(files.numbers()) == list(range(21))
    assert run.order.kind == "materialized"


def _files_of_batch(step: int, row: RowFormat, files: FileSet) -> list[int]:
    batch_bytes = row.row_len * 2 * 1024
    assert files.bytes is not None
    return list(range(step * batch_bytes // files.bytes, ((step + 1) * batch_bytes - 1) // files.bytes + 1))


def test_a_batch_is_4_196_352_bytes_and_20_of_them_lie_in_two_files(data: tuple[RowFormat, FileSet]) -> None:
    row, files = data
    assert row.row_len * 2 * 1024 == 4_196_352
    straddling = [step for step in range(143_000) if len(_files_of_batch(step, row, files)) > 1]
    assert len(straddling) == 20
    assert straddling[0] == 7149
    assert _files_of_batch(7148, row, files) == [0]
    assert _files_of_batch(7149, row, files) == [0, 1]
    assert _files_of_batch(7150, row, files) == [1]
    assert _files_of_batch(142_999, row, files) == [20]


def test_step_1000_has_seen_batches_0_to_999(run: Run) -> None:
    assert segment_of_step(run, 999).name == "step1000"
    assert segment_of_step(run, 1000).name == "step2000"
    assert segment_of_step(run, 0).name == "step1"
    assert segment_of_step(run, 1).name == "step2"


def test_the_first_batch_changes_nothing_so_step0_equals_step1(run: Run) -> None:
    assert run.schedule is not None
    assert run.series is not None
    assert learning_rate(run.schedule, 0) == 0.0
    assert run.series.equal == (("step0", "step1"),)


def test_the_learning_rate_is_cut_off_long_before_the_end(run: Run) -> None:
    """gpt-neox v1.0: lr / 2 * (cos(pi * (n - warmup) / 143000) + 1), never below min_lr."""
    assert run.schedule is not None
    assert learning_rate(run.schedule, 1430) == 0.001
    assert learning_rate(run.schedule, 1430 + 71_500) == pytest.approx(0.0005)
    assert learning_rate(run.schedule, 120_000) == 0.0001
    assert learning_rate(run.schedule, 142_999) == 0.0001


def test_batches_of_all_sizes_are_1024_rows_over_their_devices(spec: ReleaseSpec) -> None:
    for run in spec.runs[0].expanded():
        spread = run.parallelism[0]
        copies = (spread.world_size or 0) // (spread.tensor or 1)
        assert copies * (spread.per_device_batch or 0) * spread.accumulation == 1024, run.name


def test_names_of_the_first_models_are_twice_their_step(spec: ReleaseSpec) -> None:
    run = spec.run("pythia-1.4b-v0")
    plan = find_checkpoint(run, "step1000", spec.corpus_of(run))
    assert plan.step == 500
    later = spec.run("pythia-1.4b")
    assert plan.tokens == find_checkpoint(later, "step1000", spec.corpus_of(later)).tokens
    assert find_checkpoint(run, "main").step == 71_500


def test_evaluations_are_at_27_and_15_checkpoints(spec: ReleaseSpec) -> None:
    names = {plan.name for plan in checkpoints(spec.run("pythia-70m"))}
    counts = set()
    for evaluation in spec.evaluations:
        assert not isinstance(evaluation.at, str)
        assert set(evaluation.at.names) <= names
        counts.add((evaluation.shots, len(evaluation.at.names)))
    assert counts == {(0, 27), (5, 15)}
