"""Steps and names of checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from open360.schema.corpus import Corpus, RowFormat
from open360.schema.model import StepFunction
from open360.schema.run import Run
from open360.schema.schedule import ScheduleError, checkpoints, find_checkpoint
from open360.schema.series import MAX_CHECKPOINTS, OtherStorage, Series, StepLabel, StepRange, TokenLabel
from tests.schema.strategies import serieses


def _run(series: Series, steps: int = 100, **fields: Any) -> Run:
    fields = {"batch": StepFunction[int].model_validate(2), "seq_len": 8, **fields}
    return Run(name="r", objective="pretrain", steps=steps, series=series, **fields)


@given(st.integers(1, 120).flatmap(lambda steps: st.tuples(st.just(steps), serieses(steps))))
def test_steps_increase_stay_inside_the_run_and_names_find_their_checkpoint(case: tuple[int, Series]) -> None:
    run = _run(case[1], case[0])
    plans = checkpoints(run)
    steps = [plan.step for plan in plans]
    assert steps == sorted(set(steps))
    assert all(0 <= step <= case[0] for step in steps)
    assert len({plan.name for plan in plans}) == len(plans)
    for plan in plans:
        assert find_checkpoint(run, plan.name) == plan


@given(st.integers(1, 500), st.integers(1, 500))
def test_every_gives_all_multiples_and_final_adds_the_last_step(every: int, steps: int) -> None:
    multiples = list(range(every, steps + 1, every))
    assert Series(name="s{step}", every=every).steps(steps) == multiples
    assert Series(name="s{step}", every=every, final=True).steps(steps) == sorted({*multiples, steps})


@given(st.integers(0, 10**15), st.integers(1, 10**12))
def test_rounding_brackets_the_true_quotient(tokens: int, per: int) -> None:
    low = TokenLabel(per=per, round="floor").label(tokens)
    high = TokenLabel(per=per, round="ceil").label(tokens)
    near = TokenLabel(per=per, round="nearest").label(tokens)
    assert low * per <= tokens <= high * per
    assert high - low == (tokens % per != 0)
    assert near in (low, high)
    assert abs(near * per - tokens) * 2 <= per


def test_the_initial_checkpoint_has_no_index_and_takes_step_zero() -> None:
    series = Series(name="ckpt_{index:03d}", at=(0, 10, 20), initial="ckpt_init")
    plans = checkpoints(_run(series))
    assert [(p.name, p.step, p.index) for p in plans] == [
        ("ckpt_init", 0, None), ("ckpt_000", 10, 0), ("ckpt_001", 20, 1),
    ]  # fmt: skip


def test_a_name_of_its_own_stands_in_place_of_the_pattern() -> None:
    series = Series(name="step{step}", every=50, named={"last-15T": 100})
    assert [plan.name for plan in checkpoints(_run(series))] == ["step50", "last-15T"]


def test_a_series_of_named_checkpoints_needs_no_pattern_and_no_number_of_steps() -> None:
    run = Run(name="r", objective="sft", series=Series(named={"kestrel": 7, "starling": 9}))
    assert [(p.name, p.step, p.tokens) for p in checkpoints(run)] == [("kestrel", 7, None), ("starling", 9, None)]


def test_checkpoints_at_unknown_steps_are_declared_and_not_placed() -> None:
    run = Run(name="r", objective="sft", series=Series(unplaced=("main",)))
    assert checkpoints(run) == []


def test_labels_of_steps_go_on_from_the_parent_scale_and_shorten() -> None:
    assert StepLabel(plus=3_450_000).label(30_000) == 3_480_000
    assert StepLabel(times=2).label(500) == 1000
    assert StepLabel(per=1000).label(715_999) == 715


def test_labels_of_tokens_go_on_from_the_parent_and_the_count_does_not() -> None:
    run = _run(Series(name="s{step}-t{tokens}", every=100, tokens=TokenLabel(plus=400, per=1000)))
    assert [(plan.name, plan.tokens) for plan in checkpoints(run)] == [("s100-t2", 1600)]


def test_nominal_tokens_make_the_label_and_true_tokens_the_count() -> None:
    label = TokenLabel(per=1000, round="floor", nominal=StepFunction[int].model_validate([[0, 100], [50, 200]]))
    run = _run(Series(name="s{step}-t{tokens}", at=(50, 100), tokens=label))
    plans = checkpoints(run)
    assert [plan.name for plan in plans] == ["s50-t5", "s100-t15"]
    assert [plan.tokens for plan in plans] == [50 * 2 * 8, 100 * 2 * 8]


def test_revisions_and_aliases_find_the_same_checkpoint() -> None:
    series = Series(name="ckpt_{index}", every=50, revisions={"ckpt_1": "main"}, aliases={"latest": "ckpt_1"})
    run = _run(series)
    assert {find_checkpoint(run, name).step for name in ("ckpt_1", "main", "latest")} == {100}


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(ScheduleError, match=r"no checkpoint 'ckpt_9'.*ckpt_0.*ckpt_1"):
        find_checkpoint(_run(Series(name="ckpt_{index}", every=50)), "ckpt_9")


def test_two_checkpoints_with_one_name_are_refused() -> None:
    with pytest.raises(ScheduleError, match="one name"):
        checkpoints(_run(Series(name="t{tokens}B", every=10)))


def test_storage_is_that_of_the_series_but_for_the_exceptions() -> None:
    other = OtherStorage(checkpoints=("ckpt_1",), format="safetensors", dtype="bfloat16")
    series = Series(name="ckpt_{index}", every=50, format="pickle", dtype="float32", stored_otherwise=(other,))
    assert series.storage("ckpt_0") == ("pickle", "float32")
    assert series.storage("ckpt_1") == ("safetensors", "bfloat16")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "ckpt", "every": 5, "at": (1,)},
        {"name": "ckpt"},
        {"every": 5},
        {"name": "{step", "every": 5},
        {"name": "{step!r}", "every": 5},
        {"name": "{step.__class__}", "every": 5},
        {"name": "{0}", "every": 5},
        {"name": "a/{step}", "every": 5},
        {"name": "{step:9999d}", "every": 5},
        {"name": "s{step}", "at": (StepRange(first=9, last=3, every=1),)},
        {"name": "s{step}", "at": (StepRange(first=0, last=MAX_CHECKPOINTS, every=1),)},
        {"named": {"a": 5, "b": 5}},
    ],
)
def test_a_series_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Series(**fields)


def test_a_series_beyond_all_size_is_refused_with_its_run() -> None:
    with pytest.raises(ValidationError, match="more than 200000 checkpoints"):
        _run(Series(name="s{step}", every=1), steps=MAX_CHECKPOINTS + 1)


def test_a_run_without_steps_cannot_place_a_stride() -> None:
    run = Run(name="r", objective="pretrain", series=Series(name="s{step}", every=5))
    with pytest.raises(ScheduleError, match="add the number of batches"):
        checkpoints(run)


def test_names_hold_the_tokens_of_the_corpus_rows() -> None:
    corpus = Corpus(name="c", row=RowFormat(row_len=9, seq_len=8))
    label = TokenLabel(per=1, round="floor")
    run = Run(
        name="r", objective="pretrain", corpus="c", steps=4, batch=StepFunction[int].model_validate(2),
        series=Series(name="s{step}-{tokens}", every=4, tokens=label),
    )  # fmt: skip
    assert checkpoints(run, corpus)[0].name == "s4-64"
