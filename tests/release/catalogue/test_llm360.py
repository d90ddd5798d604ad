"""Amber, CrystalCoder and K2-65B: what the specs compute equals what is stated or counted elsewhere."""

from __future__ import annotations

import pytest

from open360.release import catalogue
from open360.schema.order import ChunkOrder
from open360.schema.run import Run
from open360.schema.schedule import (
    checkpoints,
    find_checkpoint,
    learning_rate,
    newest_chunk,
    rows_at,
    segment_of_step,
    segments,
    tokens_at,
)
from open360.schema.spec import ReleaseSpec


def _run(release: str, name: str) -> tuple[ReleaseSpec, Run]:
    spec = catalogue.load(release)
    return spec, spec.run(name)


# Amber


def test_amber_has_360_checkpoints_of_which_the_last_is_main() -> None:
    spec, run = _run("amber", "amber")
    plans = checkpoints(run, spec.corpus_of(run))
    assert len(plans) == 360
    assert [plans[0].name, plans[120].name, plans[358].name] == ["ckpt_000", "ckpt_120", "ckpt_358"]
    assert (plans[359].name, plans[359].revision) == ("ckpt_359", "main")
    assert find_checkpoint(run, "main") == find_checkpoint(run, "ckpt_359")
    assert all(plan.revision == plan.name for plan in plans[:359])


def test_amber_counts_tokens_as_predicted_ids() -> None:
    spec, run = _run("amber", "amber")
    corpus = spec.corpus_of(run)
    tokens = {plan.name: plan.tokens for plan in checkpoints(run, corpus)}
    assert tokens["ckpt_000"] == 3_495_690_240
    assert tokens["ckpt_120"] == 422_978_519_040  # 422.98 billion
    assert tokens["ckpt_358"] == 1_254_952_796_160  # 1254.95 billion
    assert tokens["ckpt_359"] == 1_258_448_486_400
    assert tokens_at(run, corpus, 1) == 4_587_520


def test_the_published_size_of_ambers_data_counts_stored_ids() -> None:
    spec, run = _run("amber", "amber")
    corpus = spec.corpus_of(run)
    assert corpus is not None
    assert corpus.row is not None
    assert corpus.files is not None
    assert corpus.files.total_rows == 360 * 1_706_976
    assert corpus.files.total_rows * corpus.row.row_len == 1_259_133_776_640
    assert corpus.counting == "ids"
    assert corpus.tokens == 1_259_130_000_000
    assert sum(source.tokens or 0 for source in corpus.sources) == 1_259_110_000_000


def test_amber_steps_are_762_a_chunk_and_96_rows_of_each_are_dropped() -> None:
    spec, run = _run("amber", "amber")
    corpus = spec.corpus_of(run)
    assert corpus is not None
    assert corpus.files is not None
    assert isinstance(run.order, ChunkOrder)
    assert find_checkpoint(run, "ckpt_358", corpus).step == 273_558
    assert run.steps == 274_320
    assert (corpus.files.rows or 0) - run.order.rows_used == 96
    assert run.order.rows_used == 762 * 2240


def test_the_newest_chunk_of_amber_ckpt_k_is_k_at_both_borders() -> None:
    spec, run = _run("amber", "amber")
    corpus = spec.corpus_of(run)
    found = segments(run, corpus)
    assert [newest_chunk(run, segment) for segment in found] == list(range(360))
    assert [segment.name for segment in found] == [f"ckpt_{k:03d}" for k in range(360)]
    step = find_checkpoint(run, "ckpt_004", corpus).step
    assert segment_of_step(run, step - 1).name == "ckpt_004"  # its last batch
    assert segment_of_step(run, step).name == "ckpt_005"  # the first one that it has not seen
    assert found[0].parent is None
    assert found[0].first_step == 0
    assert corpus is not None
    assert corpus.files is not None
    assert corpus.files.file(5) == "train/train_005.jsonl"


def test_ambers_learning_rate_follows_its_code() -> None:
    _, run = _run("amber", "amber")
    assert run.schedule is not None
    rates = [learning_rate(run.schedule, step) for step in (0, 1000, 2000, 274_319)]
    assert rates == pytest.approx([0.0, 1.5e-4, 3.0e-4, 3.0e-5], rel=1e-6)


def test_ambers_main_is_stored_unlike_its_branches() -> None:
    _, run = _run("amber", "amber")
    assert run.series is not None
    assert run.series.storage("ckpt_349") == ("pickle", "float32")
    assert run.series.storage("ckpt_359") == ("safetensors", "bfloat16")
    assert run.series.optimizer == "never"


def test_amber_chat_and_amber_safe_hang_below_amber() -> None:
    spec = catalogue.load("amber")
    tree = {run.name: run.parent.run if run.parent else None for run in spec.runs}
    assert tree == {
        "amber": None,
        "amber-chat": "amber",
        "amber-safe-sft": "amber-chat",
        "amber-safe": "amber-safe-sft",
    }
    assert [run.objective for run in spec.runs] == ["pretrain", "sft", "sft", "dpo"]
    assert spec.run("amber-safe").preference is not None
    root = spec.root_run()
    assert root is not None
    assert root.hub.model == "LLM360/Amber"


# CrystalCoder


@pytest.mark.parametrize(
    ("phase", "steps", "tokens", "intervals", "last_interval"),
    [
        (1, 79_721, 344_823_300_096, 53, 79_500),
        (2, 214_387, 927_304_384_512, 142, 213_000),
        (3, 27_728, 119_934_025_728, 27, 27_000),
    ],
)
def test_each_stage_of_crystalcoder_has_the_tokens_and_checkpoints_of_its_parameter_file(
    phase: int, steps: int, tokens: int, intervals: int, last_interval: int
) -> None:
    spec, run = _run("crystalcoder", f"crystalcoder-phase{phase}")
    plans = checkpoints(run, spec.corpus_of(run))
    assert run.steps == steps
    assert len(plans) == intervals + 1
    assert plans[-2].step == last_interval
    assert (plans[-1].name, plans[-1].tokens) == (f"CrystalCoder_phase{phase}_checkpoint_{steps:06d}", tokens)
    assert tokens_at(run, spec.corpus_of(run), 1) == 4_325_376


def test_the_stages_of_crystalcoder_add_up_to_its_total() -> None:
    spec = catalogue.load("crystalcoder")
    stages = [spec.run(f"crystalcoder-phase{phase}") for phase in (1, 2, 3)]
    total = sum(tokens_at(run, spec.corpus_of(run), run.steps or 0) for run in stages)
    assert total == 1_392_061_710_336
    assert [run.parent.step if run.parent else None for run in stages] == [None, 79_721, 214_387]


def test_names_of_crystalcoder_checkpoints_are_those_on_its_card() -> None:
    spec, run = _run("crystalcoder", "crystalcoder-phase1")
    names = [plan.name for plan in checkpoints(run, spec.corpus_of(run))]
    assert names[0] == "CrystalCoder_phase1_checkpoint_001500"
    assert "CrystalCoder_phase1_checkpoint_055500" in names
    last = find_checkpoint(spec.run("crystalcoder-phase3"), "main")
    assert (last.name, last.step) == ("CrystalCoder_phase3_checkpoint_027728", 27_728)


def test_crystalcoders_first_schedule_was_stopped_far_above_its_end() -> None:
    _, run = _run("crystalcoder", "crystalcoder-phase1")
    assert run.schedule is not None
    assert learning_rate(run.schedule, 79_721) == pytest.approx(0.008787, abs=5e-7)
    assert learning_rate(run.schedule, 294_423) == 0.00012408


@pytest.mark.parametrize("phase", [1, 2, 3])
def test_the_weights_of_each_mix_of_crystalcoder_add_up_to_one(phase: int) -> None:
    corpus = catalogue.load("crystalcoder").corpus(f"phase{phase}-data")
    assert sum(source.weight or 0 for source in corpus.sources) == pytest.approx(1.0, abs=1e-9)


def test_crystalcoder_halves_of_slimpajama_have_every_second_file() -> None:
    spec = catalogue.load("crystalcoder")
    for phase, first in ((1, 0), (2, 1)):
        files = spec.corpus(f"phase{phase}-data").sources[0].files
        assert files is not None
        assert (files.first, files.stride) == (first, 2)
        assert files.file(first) == f"phase{phase}/SlimPajama/ArXiv_train_packed_part{first}of2/data-0000{first}.h5"


def test_crystalchat_starts_from_stage_two_and_not_from_the_end() -> None:
    spec, run = _run("crystalcoder", "crystalchat")
    assert run.parent is not None
    parent = spec.run(run.parent.run)
    assert find_checkpoint(parent, run.parent.checkpoint or "", spec.corpus_of(parent)).step == 214_387


# K2-65B


def _published_formula() -> list[int]:
    """The order of chunks as the training code computes it."""
    order = [*range(16), *range(32, 38), *range(44, 52)]
    order += [chunk for chunk in range(360) if chunk not in order]
    order = order[:160] + order[161:] + order[160:161]
    return order[:185] + order[186:] + order[185:186]


def test_the_order_of_k2s_chunks_is_the_permutation_of_its_code() -> None:
    _, run = _run("k2-65b", "k2-65b")
    assert isinstance(run.order, ChunkOrder)
    order = run.order.sequence()
    assert order == _published_formula()
    assert sorted(order) == list(range(360))
    assert sum(place == chunk for place, chunk in enumerate(order)) == 124


def test_the_newest_chunk_of_k2_ckpt_k_stands_in_place_k_minus_one() -> None:
    spec, run = _run("k2-65b", "k2-65b")
    order = _published_formula()
    for segment in segments(run, spec.corpus_of(run)):
        number = int(segment.name.removeprefix("ckpt_"))
        assert newest_chunk(run, segment) == order[number - 1]
    assert newest_chunk(run, segment_of_step(run, 16 * 941 - 1)) == 15
    assert newest_chunk(run, segment_of_step(run, 16 * 941)) == 32


def test_k2_counts_its_checkpoints_from_one() -> None:
    spec, run = _run("k2-65b", "k2-65b")
    plans = checkpoints(run, spec.corpus_of(run))
    assert len(plans) == 360
    assert (plans[0].name, plans[0].step, plans[0].tokens) == ("ckpt_001", 941, 3_931_422_720)
    assert (plans[-1].name, plans[-1].step, plans[-1].tokens) == ("ckpt_360", 338_760, 1_415_312_179_200)
    assert tokens_at(run, spec.corpus_of(run), 1) == 4_177_920


def test_k2_trains_on_every_row_of_its_chunks() -> None:
    spec, run = _run("k2-65b", "k2-65b")
    corpus = spec.corpus_of(run)
    assert corpus is not None
    assert corpus.files is not None
    assert corpus.files.rows == 1_919_640
    assert rows_at(run, run.steps or 0) == corpus.files.total_rows == 360 * 1_919_640
    assert corpus.files.file(5) == "chunk_5.jsonl"
    assert sum((source.tokens or 0) * source.epochs for source in corpus.sources) == pytest.approx(1.3e12, rel=1e-3)


def test_checkpoints_of_k2s_second_stage_are_known_by_name_only() -> None:
    spec, run = _run("k2-65b", "k2-65b-stage2")
    assert run.series is not None
    assert run.series.unplaced[0] == "ministage2_ckpt_371"
    assert run.series.unplaced[-1] == "ministage2_ckpt_380"
    assert checkpoints(run, spec.corpus_of(run)) == []
