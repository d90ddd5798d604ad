"""OLMo 2: names of checkpoints, whose rounding differs by size and stage, and where its stages join."""

from __future__ import annotations

import pytest

from open360.release import catalogue
from open360.schema.order import FunctionOrder
from open360.schema.schedule import checkpoints, find_checkpoint, learning_rate, tokens_at
from open360.schema.spec import ReleaseSpec

TOKENS_A_STEP = {"1b": 2_097_152, "7b": 4_194_304, "13b": 8_388_608, "32b": 8_388_608}


@pytest.fixture(scope="module")
def spec() -> ReleaseSpec:
    return catalogue.load("olmo-2")


@pytest.mark.parametrize(
    ("size", "step", "label"),
    [("1b", 1907359, 4001), ("7b", 928646, 3896), ("13b", 596057, 5001), ("32b", 721901, 6056)],
)
def test_stage_1_ends_where_its_last_name_says(spec: ReleaseSpec, size: str, step: int, label: int) -> None:
    run = spec.run(f"olmo-2-{size}-stage1")
    last = checkpoints(run, spec.corpus_of(run))[-1]
    assert (last.name, last.step) == (f"stage1-step{step}-tokens{label}B", step)
    assert last.tokens == step * TOKENS_A_STEP[size]
    assert run.steps == step


@pytest.mark.parametrize(
    ("run", "name", "step"),
    [
        ("olmo-2-1b-stage1", "stage1-step0-tokens0B", 0),
        ("olmo-2-1b-stage1", "stage1-step140000-tokens294B", 140_000),
        ("olmo-2-7b-stage1", "stage1-step1000-tokens5B", 1000),
        ("olmo-2-7b-stage1", "stage1-step101000-tokens424B", 101_000),
        ("olmo-2-7b-stage1", "stage1-step300000-tokens1259B", 300_000),
        ("olmo-2-13b-stage1", "stage1-step102500-tokens860B", 102_500),
        ("olmo-2-32b-stage1", "stage1-step250000-tokens2098B", 250_000),
        ("olmo-2-1b-stage2-ingredient1", "stage2-ingredient1-step23852-tokens51B", 23_852),
        ("olmo-2-1b-stage2-ingredient2", "stage2-ingredient2-step23852-tokens51B", 23_852),
        ("olmo-2-7b-stage2-ingredient1", "stage2-ingredient1-step11931-tokens50B", 11_931),
        ("olmo-2-7b-stage2-ingredient3", "stage2-ingredient3-step11931-tokens50B", 11_931),
        ("olmo-2-13b-stage2-ingredient2", "stage2-ingredient2-step11931-tokens100B", 11_931),
        ("olmo-2-13b-stage2-ingredient4", "stage2-ingredient4-step35773-tokens300B", 35_773),
        ("olmo-2-32b-stage2-ingredient1", "stage2-ingredient1-step11921-tokens101B", 11_921),
        ("olmo-2-32b-stage2-ingredient3", "stage2-ingredient3-step35763-tokens301B", 35_763),
    ],
)
def test_revisions_are_named_as_they_are_on_the_hub(spec: ReleaseSpec, run: str, name: str, step: int) -> None:
    found = find_checkpoint(spec.run(run), name, spec.corpus_of(spec.run(run)))
    assert (found.revision, found.step) == (name, step)


@pytest.mark.parametrize(
    ("size", "seeds", "seed", "epoch_base"),
    [
        ("1b", [42069, 666, 42], 6198, 0),
        ("7b", [42, 42069, 666], 6198, 0),
        ("13b", [1110, 2662, 6209, 2662], 6198, 0),
        ("32b", [1110, 2662, 2662], 34521, 1),
    ],
)
def test_every_ingredient_starts_from_the_end_of_stage_1_with_a_seed_of_its_own(
    spec: ReleaseSpec, size: str, seeds: list[int], seed: int, epoch_base: int
) -> None:
    first = spec.run(f"olmo-2-{size}-stage1")
    assert isinstance(first.order, FunctionOrder)
    assert (first.order.seed, first.order.epoch_base) == (seed, epoch_base)
    for number, expected in enumerate(seeds, start=1):
        run = spec.run(f"olmo-2-{size}-stage2-ingredient{number}")
        assert isinstance(run.order, FunctionOrder)
        assert (run.order.seed, run.seed) == (expected, expected)
        assert run.parent is not None
        assert (run.parent.run, run.parent.step) == (first.name, first.steps)


def test_the_final_weights_are_an_average_but_for_the_smallest_size(spec: ReleaseSpec) -> None:
    assert {merge.name: len(merge.of) for merge in spec.merges} == {"olmo-2-7b": 3, "olmo-2-13b": 4, "olmo-2-32b": 3}
    assert all(merge.revision == "main" for merge in spec.merges)
    for merge in spec.merges:
        assert [part.step for part in merge.of] == [spec.run(part.run).steps for part in merge.of]
    last = spec.run("olmo-2-1b-stage2-ingredient3")
    assert find_checkpoint(last, "main", spec.corpus_of(last)).step == 23_852


def test_stage_2_of_the_smallest_size_starts_at_the_learning_rate_where_stage_1_ended(spec: ReleaseSpec) -> None:
    """Stage 2's configuration says 7.4487e-5; nothing but the horizon of 5e12 tokens gives that."""
    first, second = spec.run("olmo-2-1b-stage1"), spec.run("olmo-2-1b-stage2-ingredient1")
    assert first.schedule is not None
    assert second.schedule is not None
    rate = learning_rate(first.schedule, (first.steps or 0) - 1, tokens_per_step=2_097_152)
    assert rate == pytest.approx(7.4487e-5, rel=1e-5)
    assert second.schedule.peak == 7.4487e-5
    assert learning_rate(second.schedule, 23_841) == 0.0


def test_the_peak_in_the_configuration_of_13b_does_not_lead_to_its_stage_2(spec: ReleaseSpec) -> None:
    first, second = spec.run("olmo-2-13b-stage1"), spec.run("olmo-2-13b-stage2-ingredient1")
    assert first.schedule is not None
    assert second.schedule is not None
    tripled = first.schedule.model_copy(update={"peak": 9e-4, "end": 9e-5})
    last = (first.steps or 0) - 1
    assert learning_rate(first.schedule, last, tokens_per_step=8_388_608) == pytest.approx(3e-5)
    assert learning_rate(tripled, last, tokens_per_step=8_388_608) == pytest.approx(second.schedule.peak)


def test_the_published_lists_have_as_many_checkpoints_as_was_counted(spec: ReleaseSpec) -> None:
    counts = {size: len(checkpoints(spec.run(f"olmo-2-{size}-stage1"))) for size in TOKENS_A_STEP}
    assert counts == {"1b": 195, "7b": 936, "13b": 650, "32b": 741}  # doubled rows of the lists counted once


def test_the_mix_names_five_files_twice(spec: ReleaseSpec) -> None:
    files = spec.corpus("olmo-mix-1124").files
    assert files is not None
    assert (files.count, len(files.repeated)) == (1122, 5)


def test_a_step_is_as_many_tokens_as_batch_and_row_say(spec: ReleaseSpec) -> None:
    for size, tokens in TOKENS_A_STEP.items():
        run = spec.run(f"olmo-2-{size}-stage1")
        assert tokens_at(run, spec.corpus_of(run), 1) == tokens
