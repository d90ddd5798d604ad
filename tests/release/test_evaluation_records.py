"""Evaluation records: every shape that harnesses write is read, and nothing that a file holds makes reading fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open360.release.evidence.evaluation_records import MAX_PROBLEMS, RecordFile, read_records, stream_of


def _read(plain: Any) -> RecordFile:
    return read_records(json.dumps(plain).encode(), "record.json")


def test_a_record_of_the_old_harness_is_read() -> None:
    found = _read(
        {
            "results": {"piqa": {"acc": 0.5, "acc_stderr": 0.01}, "wsc": {"acc": 1}},
            "versions": {"piqa": 0},
            "config": {
                "model": "hf-causal",
                "model_args": "use_accelerate=True,pretrained=EleutherAI/pythia-v1.1-70m,revision=step0",
                "num_fewshot": 5,
            },
        }
    )
    assert found.problems == ()
    piqa, wsc = found.records
    assert (piqa.task, piqa.metric, piqa.value, piqa.stderr, piqa.shots) == ("piqa", "acc", 0.5, 0.01, 5)
    assert (piqa.task_version, piqa.model, piqa.revision) == ("0", "EleutherAI/pythia-v1.1-70m", "step0")
    assert (wsc.value, wsc.stderr, wsc.task_version) == (1.0, None, None)


def test_a_record_of_the_new_harness_is_read() -> None:
    found = _read(
        {
            "results": {
                "mmlu": {"acc,none": 0.6, "acc_stderr,none": 0.004, "alias": "mmlu", " ": " "},
                "gsm8k": {"exact_match,strict-match": 0.1, "exact_match_stderr,strict-match": "N/A"},
            },
            "versions": {"mmlu": 2, "gsm8k": 3.0},
            "n-shot": {"mmlu": 5},
            "n-samples": {"mmlu": {"original": 14042, "effective": 14042}},
            "config": {"model_args": {"pretrained": "allenai/OLMo-2-1124-7B"}, "model_revision": "stage1-step1000"},
            "git_hash": "a1b2c3d",
            "lm_eval_version": "0.4.9",
        }
    )
    assert found.problems == ()
    mmlu, gsm8k = found.records
    assert (mmlu.metric, mmlu.stderr, mmlu.shots, mmlu.samples, mmlu.task_version) == ("acc", 0.004, 5, 14042, "2")
    assert (mmlu.harness_commit, mmlu.harness_version) == ("a1b2c3d", "0.4.9")
    assert (mmlu.model, mmlu.revision) == ("allenai/OLMo-2-1124-7B", "stage1-step1000")
    assert (gsm8k.metric, gsm8k.stderr) == ("exact_match,strict-match", None)


@pytest.mark.parametrize(
    "of_one",
    [
        {"acc_norm": 0.25, "acc_norm_stderr": 0.1},
        {"arc": {"acc_norm": 0.25, "acc_norm_stderr": 0.1}},
        {"results": {"arc": {"acc_norm": 0.25, "acc_norm_stderr": 0.1}}},
        {"metrics": {"acc_norm": 0.25, "acc_norm_stderr": 0.1}},
    ],
)
def test_a_file_for_many_checkpoints_is_read(of_one: dict[str, Any]) -> None:
    found = _read({"ckpt_000": of_one, "ckpt_001": of_one})
    assert found.problems == ()
    assert [(r.checkpoint, r.value, r.stderr) for r in found.records] == [
        ("ckpt_000", 0.25, 0.1),
        ("ckpt_001", 0.25, 0.1),
    ]
    assert len(list(stream_of(found.records, "arc", "acc_norm"))) == 2


def test_our_own_record_is_read() -> None:
    found = _read({"checkpoint": "ckpt_000", "task": "held_out", "step": 22, "metrics": {"loss": 6.9}, "domains": {}})
    (record,) = found.records
    assert (record.checkpoint, record.task, record.metric, record.value) == ("ckpt_000", "held_out", "loss", 6.9)


def test_parts_of_a_task_stand_for_it_where_it_is_not_there_itself() -> None:
    parts = {f"hendrycksTest-{name}": {"acc": 0.25} for name in ("anatomy", "astronomy")}
    records = _read({"results": {**parts, "arc_easy": {"acc": 0.5}}}).records
    assert len(list(stream_of(records, "hendrycksTest", "acc"))) == 2
    assert [r.task for r in stream_of(records, "arc_easy", "acc")] == ["arc_easy"]
    assert list(stream_of(records, "hendrycksTest", "acc_norm")) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"running...", "found the text 'running...'"),
        (b"", "not valid JSON"),
        (b"{}", "an object with results, found an object of 0"),
        (b"[1]", "an object with results, found a list of 1"),
        (b'{"results": []}', "/results: expected an object of tasks, found a list of 0"),
        (b'{"results": {}}', "expected scores, found none"),
        (b'{"results": {"arc": 1}}', "/results/arc: expected an object of metrics, found 1"),
        (b'{"results": {"arc": {"acc": "running..."}}}', "/results/arc/acc: expected a finite number, found the text"),
        (b'{"results": {"arc": {"acc": true}}}', "expected a finite number, found True"),
        (b'{"results": {"arc": {"acc": 1e999}}}', "expected a finite number, found inf"),
        (b'{"results": {"arc": {"acc": NaN}}}', "NaN is not a number"),
        (b'{"ckpt_000": "running...", "ckpt_001": {"acc": 1}}', "/ckpt_000: expected an object with results"),
        (b'{"a": 1}', "'results', 'metrics' or an object for each checkpoint"),
        (b'{"results": {"arc": {"acc": ' + b"9" * 400 + b"}}}", "expected a finite number"),
        (b"[" * 10_000, "not valid JSON"),
    ],
)
def test_what_is_no_record_is_a_problem_that_says_what_was_found(data: bytes, told: str) -> None:
    found = read_records(data, "record.json")
    assert any(told in problem for problem in found.problems), found.problems


def test_many_problems_are_cut() -> None:
    found = _read({"results": {f"task{i}": {"acc": "x" * 1000} for i in range(500)}})
    assert len(found.problems) == MAX_PROBLEMS
    assert all(len(problem) < 300 for problem in found.problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["results", "metrics", "config", "versions", "model_args", "acc", "acc,none", "n-shot", "", ","]
            )
            | st.text(max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_told_as_a_problem(plain: Any) -> None:
    found = _read(plain)
    assert found.records or found.problems
    for record in found.records:
        list(stream_of((record,), "task", record.metric))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_told_as_a_problem(data: bytes) -> None:
    found = read_records(data, "record.json")
    assert found.records or found.problems
