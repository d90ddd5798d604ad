"""Releases of others: counts, names and totals that their authors or readers have stated."""

from __future__ import annotations

import itertools

import pytest

from open360.release import catalogue
from open360.schema.run import Run
from open360.schema.schedule import checkpoints, find_checkpoint, learning_rate, rows_at, tokens_at
from open360.schema.spec import ReleaseSpec


def _run(release: str, name: str) -> tuple[ReleaseSpec, Run]:
    spec = catalogue.load(release)
    return spec, spec.run(name)


@pytest.mark.parametrize(("step", "label"), [(556_000, 2460), (452_000, 2000)])
def test_names_of_olmo_7b_fit_a_batch_of_2160_and_not_of_2048(step: int, label: int) -> None:
    spec, run = _run("olmo-1", "olmo-7b")
    corpus = spec.corpus_of(run)
    assert find_checkpoint(run, f"step{step}-tokens{label}B", corpus).step == step
    as_configured = Run.model_validate({**dict(run), "batch": 2048})
    assert f"step{step}-tokens{label}B" not in {plan.name for plan in checkpoints(as_configured, corpus)}


def test_two_lists_of_olmo_7b_0724_are_named_and_only_one_is_its_own() -> None:
    spec, run = _run("olmo-1", "olmo-7b-0724")
    assert run.series is not None
    plans = checkpoints(run, spec.corpus_of(run))
    assert (len(plans), plans[-1].step) == (687, 651_581)
    assert ["checkpoints/official" in str(known.url) for known in run.series.lists] == [True, False]
    assert tokens_at(run, spec.corpus_of(run), 1) == 4_194_304


@pytest.mark.parametrize(
    ("run", "count", "last", "tokens_a_step"),
    [
        ("olmo-3-7b-stage2", 48, "stage2-step47684", 2_097_152),
        ("olmo-3-7b-stage3", 12, "stage3-step11921", 4_194_304),
        ("olmo-3-32b-stage1", 680, "stage1-step679000", 8_388_608),
        ("olmo-3-32b-stage2-ingredient1", 24, "stage2-ingredient1-step23842", 4_194_304),
        ("olmo-3-32b-stage3", 12, "stage3-step11921", 8_388_608),
    ],
)
def test_the_stages_of_olmo_3_have_the_checkpoints_of_their_lists(
    run: str, count: int, last: str, tokens_a_step: int
) -> None:
    spec, found = _run("olmo-3", run)
    plans = checkpoints(found, spec.corpus_of(found))
    assert (len(plans), plans[-1].name) == (count, last)
    assert tokens_at(found, spec.corpus_of(found), 1) == tokens_a_step


def test_stage_1_of_olmo_3_7b_goes_on_where_its_schedule_was_changed() -> None:
    spec = catalogue.load("olmo-3")
    parts = [spec.run(f"olmo-3-7b-stage1-part{part}") for part in (1, 2)]
    names = [plan.name for part in parts for plan in checkpoints(part, spec.corpus_of(part))]
    assert len(names) == 1415
    assert names == [*(f"stage1-step{step}" for step in range(0, 1_414_000, 1000)), "stage1-step1413814"]
    assert sum(tokens_at(part, spec.corpus_of(part), part.steps or 0) for part in parts) == 1_413_814 * 4_194_304
    assert parts[1].order.kind == "function"
    assert parts[1].order.first_row == rows_at(parts[0], parts[0].steps or 0)


def test_olmo_3_32b_used_5_5_trillion_tokens_of_stage_1_and_was_averaged_twice() -> None:
    spec = catalogue.load("olmo-3")
    first = spec.run("olmo-3-32b-stage1")
    ingredient = spec.run("olmo-3-32b-stage2-ingredient2")
    assert ingredient.parent is not None
    assert round(tokens_at(first, spec.corpus_of(first), ingredient.parent.step or 0) / 1e12, 4) == 5.5029
    assert [part.step for part in spec.merges[1].of] == [10_000, 11_000, 11_921]
    third = spec.run("olmo-3-32b-stage3")
    assert third.parent is not None
    assert third.parent.run == spec.merges[0].name


def test_names_of_smollm3_count_on_through_its_stages() -> None:
    spec = catalogue.load("smollm3")
    runs = list(spec.all_runs())
    names = [plan.name for run in runs for plan in checkpoints(run, spec.corpus_of(run))]
    stages = [f"stage{stage}-step-" for stage in (1, 2, 3)]
    wanted = [f"{stages[(step > 3_450_000) + (step > 4_200_000)]}{step}" for step in range(40_000, 4_720_001, 40_000)]
    assert names[: len(wanted)] == wanted
    assert len(names) == 128
    assert names[-1] == "lc-32k-to-64k-step-20000"
    assert tokens_at(runs[0], spec.corpus_of(runs[0]), 1) == 2_359_296
    assert tokens_at(runs[0], spec.corpus_of(runs[0]), 40_000) == 94_371_840_000
    for above, run in itertools.pairwise(runs[:3]):
        assert run.parent is not None
        assert (run.parent.run, run.parent.step) == (above.name, above.steps)


@pytest.mark.parametrize(("name", "doubled_at"), [("apertus-8b", 1_678_000), ("apertus-70b", 523_518)])
def test_both_sizes_of_apertus_end_with_the_samples_that_were_planned(name: str, doubled_at: int) -> None:
    """The scripts plan 3,662,109,375 samples; a last batch that would not be full is not trained."""
    spec, run = _run("apertus", name)
    assert run.batch is not None
    assert run.steps is not None
    left = 3_662_109_375 - rows_at(run, run.steps)
    assert 0 <= left < run.batch.at(run.steps)
    assert run.batch.at(doubled_at) == 2 * run.batch.at(doubled_at - 1)
    assert round(tokens_at(run, spec.corpus_of(run), run.steps) / 1e12) == 15


def test_names_of_apertus_count_a_round_figure_that_is_too_high() -> None:
    spec, run = _run("apertus", "apertus-8b")
    plan = find_checkpoint(run, "step50000-tokens210B", spec.corpus_of(run))
    assert plan.step == 50_000
    assert plan.tokens == 209_715_200_000
    assert find_checkpoint(run, "step2627139-tokens15T", spec.corpus_of(run)).step == 2_627_139


@pytest.mark.parametrize("step", [12_695, 31_214, 45_000, 85_376])
def test_blooms_stairs_give_the_published_counts_of_samples(step: int) -> None:
    _, run = _run("bloom", "bloom-176b")
    assert rows_at(run, step) == 9_841_584 + (step - 12_695) * 2048


def test_blooms_batch_grows_in_117_stairs_of_16() -> None:
    _, run = _run("bloom", "bloom-176b")
    assert run.batch is not None
    assert [batch for _, batch in run.batch.root] == list(range(192, 2049, 16))


def test_the_smaller_blooms_have_eight_tags_each() -> None:
    spec = catalogue.load("bloom")
    for run in spec.all_runs()[1:]:
        steps = [plan.step for plan in checkpoints(run, spec.corpus_of(run))]
        assert steps == [1000, 10_000, *range(100_000, 600_001, 100_000)]


def test_two_branches_of_tinyllama_have_one_name_for_different_weights() -> None:
    spec = catalogue.load("tinyllama")
    first = spec.run("tinyllama")
    assert find_checkpoint(first, "step-480k-token-1007B", spec.corpus_of(first)).step == 480_000
    assert find_checkpoint(first, "step-50k-token-105B", spec.corpus_of(first)).step == 50_000
    assert find_checkpoint(first, "step-240k-token-503B", spec.corpus_of(first)).step == 240_000
    branches = [spec.run("tinyllama-given-up"), spec.run("tinyllama-after-1t")]
    found = [find_checkpoint(run, "step-715k-token-1499B", spec.corpus_of(run)) for run in branches]
    assert {plan.step for plan in found} == {235_000}
    assert len({run.hub.model for run in branches}) == 2


@pytest.mark.parametrize(
    ("step", "trillions"),
    [(660_000, 2.768), (740_500, 3.781), (820_000, 4.781), (1_320_000, 11.073), (1_420_000, 12.751)],
)
def test_marin_8b_has_the_tokens_of_its_retrospective(step: int, trillions: float) -> None:
    spec, run = _run("marin", "marin-8b")
    assert round(tokens_at(run, spec.corpus_of(run), step) / 1e12, 3) == trillions


def test_the_phases_of_marin_32b_add_up_to_its_retrospective() -> None:
    spec = catalogue.load("marin")
    phases = [spec.run(f"marin-32b-{phase}") for phase in ("phase1", "phase3", "mantis")]
    totals = itertools.accumulate(tokens_at(run, spec.corpus_of(run), run.steps or 0) for run in phases)
    assert [round(total / 1e12, 3) for total in totals] == [2.679, 5.363, 6.437]
    assert [run.order.kind for run in phases] == ["function"] * 3


def test_k2_v2_trained_12_trillion_tokens_and_left_its_parents_early() -> None:
    spec = catalogue.load("k2-v2")
    base = spec.run("k2-v2-base")
    assert tokens_at(base, None, 1) == 9_830_400
    assert tokens_at(base, None, 1_250_000) == 12_288_000_000_000
    assert {"base_0020000", "base_0125000", "base_1245000"} <= {plan.name for plan in checkpoints(base)}
    stages = [spec.run(f"k2-v2-mid-{stage}") for stage in (1, 2, 3, 4)]
    assert {tokens_at(run, None, 1) for run in stages} == {13_107_200}
    assert [run.parent.step if run.parent else None for run in stages] == [1_249_000, 130_000, 45_000, 17_500]
    assert stages[0].schedule is not None
    assert stages[1].schedule is not None
    assert learning_rate(stages[0].schedule, 135_000) == learning_rate(stages[1].schedule, 0) == 6.0e-6


def test_nanochat_says_that_its_order_depends_on_the_devices() -> None:
    spec, run = _run("nanochat", "nanochat")
    assert run.order.kind == "unknown"
    files = spec.corpora[0].files
    assert files is not None
    assert (files.file(0), files.file(files.numbers()[-1])) == ("shard_00000.parquet", "shard_06542.parquet")
