"""Rows, tokens, segments and learning rates of a run."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from open360.schema.corpus import Corpus, RowFormat
from open360.schema.model import StepFunction
from open360.schema.order import ChunkOrder, FileOrder
from open360.schema.run import LearningRate, Run
from open360.schema.schedule import (
    ScheduleError,
    checkpoints,
    learning_rate,
    newest_chunk,
    rows_at,
    segment_of_step,
    segments,
    seq_len_of,
    tokens_at,
)
from open360.schema.series import Series
from tests.schema.strategies import chunk_orders, learning_rates, serieses, step_functions


@st.composite
def runs_with_series(draw: st.DrawFn) -> Run:
    steps = draw(st.integers(1, 120))
    batch = draw(step_functions(st.integers(1, 64)))
    return Run(name="r", objective="pretrain", steps=steps, batch=batch, seq_len=16, series=draw(serieses(steps)))


@given(runs_with_series())
def test_segments_join_without_gaps_and_cover_the_run_up_to_its_last_checkpoint(run: Run) -> None:
    found = segments(run)
    plans = checkpoints(run)
    assert len(found) == sum(plan.step > 0 for plan in plans)
    if found:
        assert found[0].first_step == 0
        assert found[0].first_row == 0
        assert found[-1].end_step == plans[-1].step
        assert found[-1].end_row == rows_at(run, plans[-1].step)
    for before, after in itertools.pairwise(found):
        assert (before.end_step, before.end_row) == (after.first_step, after.first_row)
        assert after.parent == before.name
    assert sum(segment.rows for segment in found) == rows_at(run, plans[-1].step if plans else 0)


@given(runs_with_series(), st.data())
def test_every_batch_lies_in_the_segment_whose_checkpoint_has_consumed_it(run: Run, data: st.DataObject) -> None:
    """Both borders: a checkpoint at step s has seen batches 0 … s-1, so batch s-1 is its last and batch s the next."""
    found = segments(run)
    assume(found)
    index = data.draw(st.integers(0, len(found) - 1))
    segment = found[index]
    assert segment_of_step(run, segment.end_step - 1) == segment
    assert segment_of_step(run, segment.first_step) == segment
    if index + 1 < len(found):
        assert segment_of_step(run, segment.end_step) == found[index + 1]
    with pytest.raises(ScheduleError, match="no batch"):
        segment_of_step(run, found[-1].end_step)


@given(step_functions(st.integers(1, 64)), st.integers(0, 300), st.integers(0, 300))
def test_tokens_are_additive_over_any_split(batch: StepFunction[int], first: int, more: int) -> None:
    run = Run(name="r", objective="pretrain", steps=600, batch=batch, seq_len=16)
    between = sum(batch.at(step) for step in range(first, first + more)) * 16
    assert tokens_at(run, None, first + more) == tokens_at(run, None, first) + between
    assert tokens_at(run, None, 0) == 0


def test_tokens_count_predicted_ids_and_not_stored_ones() -> None:
    corpus = Corpus(name="c", row=RowFormat(row_len=2049, seq_len=2048))
    run = Run(name="r", objective="pretrain", corpus="c", batch=StepFunction[int].model_validate(3))
    assert tokens_at(run, corpus, 5) == 3 * 5 * 2048
    assert seq_len_of(run.model_copy(update={"seq_len": 512}), corpus) == 512


def test_a_run_that_says_too_little_names_the_field_to_add() -> None:
    run = Run(name="r", objective="pretrain")
    with pytest.raises(ScheduleError, match="add 'batch'"):
        rows_at(run, 5)
    with pytest.raises(ScheduleError, match="add 'seq_len'"):
        seq_len_of(run, None)
    assert segments(run) == []


@given(chunk_orders, st.integers(1, 5))
def test_each_segment_of_a_chunked_run_trains_on_the_chunk_in_its_place(order: ChunkOrder, batch: int) -> None:
    steps_a_chunk = 3
    count = len(order.sequence())
    run = Run(
        name="r", objective="pretrain", steps=count * steps_a_chunk, batch=StepFunction[int].model_validate(batch),
        order=order.model_copy(update={"rows_used": steps_a_chunk * batch}),
        series=Series(name="c{index}", every=steps_a_chunk),
    )  # fmt: skip
    assert [newest_chunk(run, segment) for segment in segments(run)] == order.sequence()


def test_a_segment_over_two_chunks_has_no_single_chunk() -> None:
    order = ChunkOrder(kind="chunk", chunks=((0, 3),), rows_used=10, within=FileOrder(kind="file"))
    fields: dict[str, Any] = {"name": "r", "objective": "pretrain", "steps": 20, "batch": 2, "order": order}
    run = Run.model_validate({**fields, "series": Series(name="c{index}", every=10)})
    with pytest.raises(ScheduleError, match="spans chunks 0 to 1"):
        newest_chunk(run, segments(run)[0])
    with pytest.raises(ScheduleError, match="order 'materialized'"):
        newest_chunk(run.model_copy(update={"order": Run(name="x", objective="sft").order}), segments(run)[0])


def test_chunks_must_hold_exactly_the_rows_of_the_steps() -> None:
    order = ChunkOrder(kind="chunk", chunks=((0, 3),), rows_used=10, within=FileOrder(kind="file"))
    with pytest.raises(ValidationError, match="expected 42, found 40"):
        Run.model_validate({"name": "r", "objective": "pretrain", "steps": 21, "batch": 2, "order": order})
    ramp = [[0, 1], [10, 3]]
    assert Run.model_validate({"name": "r", "objective": "pretrain", "steps": 20, "batch": ramp, "order": order})


@given(learning_rates(), st.integers(0, 600), st.integers(1, 9))
def test_learning_rates_stay_between_their_ends(schedule: LearningRate, step: int, tokens: int) -> None:
    rate = learning_rate(schedule, step, tokens_per_step=tokens)
    low = 0.0 if schedule.type == "inverse_sqrt" else min(schedule.start, schedule.end, schedule.peak)
    assert low - schedule.peak * 1e-12 <= rate <= schedule.peak * (1 + 1e-12)


@given(learning_rates(), st.integers(1, 9))
def test_the_peak_is_reached_where_the_warm_up_ends(schedule: LearningRate, tokens: int) -> None:
    assume(schedule.unit == "steps" and schedule.warmup > 0)
    first = 1 if schedule.counted_from is None else schedule.counted_from
    assert learning_rate(schedule, schedule.warmup - first) == pytest.approx(schedule.peak)
    before = learning_rate(schedule, schedule.warmup - first - 1) if schedule.warmup > first else schedule.start
    assert schedule.peak - before <= (schedule.peak - schedule.start) / schedule.warmup * (1 + 1e-9)


@given(learning_rates(), st.integers(0, 50))
def test_the_end_value_holds_from_the_horizon_on(schedule: LearningRate, later: int) -> None:
    assume(schedule.unit == "steps" and schedule.type in ("cosine", "linear", "wsd") and schedule.horizon is not None)
    assert schedule.horizon is not None
    assert learning_rate(schedule, schedule.horizon + later) == schedule.end


@given(learning_rates(), st.integers(0, 600), st.integers(1, 99))
def test_a_schedule_in_tokens_is_the_one_in_steps_when_all_its_lengths_are_whole_steps(
    schedule: LearningRate, step: int, tokens: int
) -> None:
    in_steps = schedule.model_copy(update={"unit": "steps"})
    lengths = {name: getattr(schedule, name) for name in ("warmup", "horizon", "decay")}
    scaled = {name: None if length is None else length * tokens for name, length in lengths.items()}
    in_tokens = schedule.model_copy(update={"unit": "tokens", **scaled})
    assert learning_rate(in_tokens, step, tokens_per_step=tokens) == pytest.approx(learning_rate(in_steps, step))


def test_batch_zero_learns_nothing_when_the_schedule_counts_from_zero() -> None:
    schedule = LearningRate(type="cosine", peak=1e-3, warmup=10, horizon=100, counted_from=0)
    assert [learning_rate(schedule, step) for step in (0, 1, 10)] == [0.0, 1e-4, 1e-3]
    assert learning_rate(schedule.model_copy(update={"counted_from": 1}), 99) == 0.0


def test_the_floor_cuts_the_curve_off() -> None:
    schedule = LearningRate(type="linear", peak=1.0, end=0.0, floor=0.1, horizon=100)
    assert [learning_rate(schedule, step) for step in (50, 89, 95, 200)] == pytest.approx([0.5, 0.11, 0.1, 0.1])


def test_a_schedule_relative_to_the_run_needs_its_steps() -> None:
    schedule = LearningRate(type="linear", peak=1.0, warmup_share=0.1)
    assert learning_rate(schedule, 9, steps=100) == 1.0
    assert learning_rate(schedule, 55, steps=100) == pytest.approx(0.5)
    with pytest.raises(ScheduleError, match="give the number of its steps"):
        learning_rate(schedule, 9)
    with pytest.raises(ScheduleError, match="give the tokens of a step"):
        learning_rate(LearningRate(type="cosine", peak=1.0, horizon=9, unit="tokens"), 9)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "cosine"},
        {"type": "cosine", "warmup": 9, "horizon": 9},
        {"type": "wsd", "horizon": 9},
        {"type": "wsd", "horizon": 9, "warmup": 5, "decay": 5},
        {"type": "constant", "end": 2.0},
        {"type": "constant", "start": 2.0},
        {"type": "cosine", "warmup_share": 0.1, "horizon": 9},
        {"type": "wsd", "warmup_share": 0.1},
        {"type": "constant", "peak": 0.0},
        {"type": "constant", "peak": float("nan")},
        {"type": "constant", "peak": float("inf")},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LearningRate.model_validate({"peak": 1.0, **fields})
