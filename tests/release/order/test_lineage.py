"""What went into a checkpoint, over runs, branches and merges."""

from __future__ import annotations

import json
from typing import Any

import pytest

from open360.release.order.lineage import lineage
from open360.release.order.resolver import StepOutsideRunError, UnresolvableOrderError
from open360.schema.spec import ReleaseSpec


def _spec(runs: list[dict[str, Any]], merges: list[dict[str, Any]] | None = None) -> ReleaseSpec:
    plain = {"open360": 1, "name": "tree", "runs": [{"objective": "pretrain", **run} for run in runs]}
    return ReleaseSpec.model_validate_json(json.dumps({**plain, "merges": merges or []}))


def _seen(spec: ReleaseSpec, name: str, step: int | None = None) -> list[tuple[str, int | None]]:
    return [(part.run.name, part.end_step) for part in lineage(spec, name, step).seen]


STAGES = [
    {"name": "stage1", "steps": 100, "series": {"name": "step{step}", "every": 10}},
    {"name": "stage2a", "steps": 20, "parent": {"run": "stage1", "step": 90}},
    {"name": "stage2b", "steps": 30, "parent": {"run": "stage1", "checkpoint": "step100"}},
    {"name": "chat", "steps": 5, "parent": {"run": "soup", "final": True}},
]
SOUP = [{"name": "soup", "of": [{"run": "stage2a", "final": True}, {"run": "stage2b", "step": 25}]}]


def test_a_chain_of_runs_is_followed_to_its_root() -> None:
    spec = _spec(STAGES, SOUP)
    assert _seen(spec, "stage1", 7) == [("stage1", 7)]
    assert _seen(spec, "stage2a", 3) == [("stage1", 90), ("stage2a", 3)]
    assert _seen(spec, "stage2b") == [("stage1", 100), ("stage2b", 30)]


def test_a_merge_has_seen_what_its_parts_have_seen_each_run_once() -> None:
    assert _seen(_spec(STAGES, SOUP), "chat", 1) == [("stage1", 100), ("stage2a", 20), ("stage2b", 25), ("chat", 1)]


def test_parents_in_other_releases_are_named() -> None:
    spec = _spec([{"name": "chat", "parent": {"run": "amber", "final": True, "release": "LLM360/Amber"}}])
    found = lineage(spec, "chat")
    assert [(part.run.name, part.end_step) for part in found.seen] == [("chat", None)]
    assert [parent.release for parent in found.outside] == ["LLM360/Amber"]


def test_a_run_of_unknown_length_has_seen_all_of_it() -> None:
    runs = [
        {"name": "first"},
        {"name": "left", "parent": {"run": "first", "step": 4}},
        {"name": "right", "parent": {"run": "first", "final": True}},
    ]
    merge = [{"name": "soup", "of": [{"run": "left", "final": True}, {"run": "right", "final": True}]}]
    assert _seen(_spec(runs, merge), "soup") == [("first", None), ("left", None), ("right", None)]


def test_a_long_chain_and_a_merge_of_merges_are_followed_once() -> None:
    runs = [{"name": "r0", "steps": 3}]
    runs += [{"name": f"r{i}", "steps": 3, "parent": {"run": f"r{i - 1}", "step": 2}} for i in range(1, 1500)]
    spec = _spec(runs)
    assert _seen(spec, "r1499", 1) == [*((f"r{i}", 2) for i in range(1499)), ("r1499", 1)]
    merges = [{"name": "m0", "of": [{"run": "r0", "final": True}, {"run": "r0", "step": 1}]}]
    merges += [
        {"name": f"m{i}", "of": [{"run": f"m{i - 1}", "final": True}, {"run": f"m{i - 1}", "final": True}]}
        for i in range(1, 60)
    ]
    assert _seen(_spec(runs[:1], merges), "m59") == [("r0", 3)]


def test_what_is_not_there_is_named() -> None:
    spec = _spec(STAGES, SOUP)
    with pytest.raises(UnresolvableOrderError, match="no run or merge is called so"):
        lineage(spec, "stage3")
    with pytest.raises(StepOutsideRunError, match="run 'stage1' has no batch 100"):
        lineage(spec, "stage1", 101)
    placeless = _spec(
        [
            {"name": "first", "series": {"unplaced": ["kestrel"]}},
            {"name": "second", "parent": {"run": "first", "checkpoint": "kestrel"}},
        ]
    )
    with pytest.raises(UnresolvableOrderError, match="the step of checkpoint 'kestrel' is not known"):
        lineage(placeless, "second")
