"""The slice of the spec, and the recipe that training needs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open360.trainer.errors import UntrainableRunError
from open360.trainer.recipe import recipe_of
from open360.trainer.slices import slice_digest, training_slice
from tests.trainer.tiny_run import tiny_spec


def digest(old: str = "", new: str = "", end_step: int | None = None) -> str:
    spec = tiny_spec(lambda text: text.replace(old, new) if old else text)
    return slice_digest(spec, spec.all_runs()[0], end_step)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("hidden_size: 32", "hidden_size: 64"),
        ("betas: [0.9, 0.95]", "betas: [0.9, 0.96]"),
        ("clip: 1.0", "clip: 2.0"),
        ("clip: 1.0}", "clip: 1.0, groups: [{match: '*norm*', weight_decay: 0.0}]}"),
        ("warmup: 3", "warmup: 4"),
        ("horizon: 18", "horizon: 20"),
        ("batch: 4", "batch: 5"),
        ("seed: 7", "seed: 8"),
        ("precision: float32", "precision: bfloat16-mixed"),
        ("determinism: machine", "determinism: tolerance"),
        ("row_len: 17", "row_len: 16"),
    ],
)
def test_what_training_reads_changes_the_slice(old: str, new: str) -> None:
    assert digest(old, new) != digest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps: 18", "steps: 36"),
        ("every: 6", "every: 3"),
        ("ckpt_{index:03d}", "step_{step}"),
        ("name: tiny\ncorpora", "name: other\ncorpora"),
        ("domain: prose", "domain: poetry"),
        ("optimizer: {", "optimizer: {description: as in the paper, "),
        ("dtype: uint16", "dtype: uint32"),
        ("batch: 4", "batch: [[0, 4]]"),
    ],
)
def test_what_training_does_not_read_leaves_the_slice_alone(old: str, new: str) -> None:
    assert digest(old, new) == digest()


def test_a_schedule_relative_to_the_run_depends_on_its_length() -> None:
    def relative(steps: int) -> str:
        spec = tiny_spec(
            lambda text: text.replace("warmup: 3, horizon: 18", "warmup_share: 0.1").replace(
                "steps: 18", f"steps: {steps}"
            )
        )
        return slice_digest(spec, spec.all_runs()[0])

    assert relative(18) != relative(36)


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(1, 9)), max_size=5), st.integers(0, 100))
def test_what_changes_at_or_after_a_step_is_no_part_of_the_slice_up_to_it(
    changes: list[tuple[int, int]], end_step: int
) -> None:
    pairs = [[0, 4], *([step, rows] for step, rows in sorted(dict(changes).items()))]
    kept = [pair for pair in pairs if pair[0] == 0 or pair[0] < end_step]
    assert digest("batch: 4", f"batch: {pairs}", end_step) == digest("batch: 4", f"batch: {kept}", end_step)


def test_the_slice_is_canonical_json() -> None:
    spec = tiny_spec()
    data = training_slice(spec, spec.all_runs()[0])
    assert json.dumps(json.loads(data), sort_keys=True, indent=2).encode() + b"\n" == data


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: adamw", "type: lion", "optimizer 'lion' is not supported (supported: adamw, adam)"),
        ("objective: pretrain", "objective: dpo", "objective 'dpo' is not supported"),
        ("precision: float32", "precision: fp8-mixed", "precision 'fp8-mixed' from step 0 is not supported"),
        (
            "precision: float32\n    determinism: machine",
            "precision: bfloat16-mixed\n    determinism: portable",
            "'portable' needs precision float32",
        ),
        ("    seed: 7\n", "", "declares no 'seed'"),
        ("    optimizer: {type: adamw, betas: [0.9, 0.95], weight_decay: 0.1, clip: 1.0}\n", "", "no 'optimizer'"),
        ("      vocab_size: 300\n", "", "needs a 'vocab_size' of at least 1, found None"),
        ("vocab_size: 300", "vocab_size: many", "needs a 'vocab_size' of at least 1, found 'many'"),
        ("    row: {row_len: 17, seq_len: 16, dtype: uint16, separator: <|end|>}\n", "", "declares no 'row'"),
        (", initial: ckpt_init", "", "no 'initial' checkpoint"),
        ("initial: ckpt_init", "initial: ckpt_init, dtype: bfloat16", "cannot go on from rounded weights"),
        ("initial: ckpt_init", "initial: ckpt_init, format: pickle", "series format 'pickle' is not written"),
        (
            "    seed: 7\n",
            "    seed: 7\n    skipped: [{first: 3, last: 4, reason: loss spike}]\n",
            "made elsewhere",
        ),
    ],
)
def test_a_run_that_cannot_be_trained_says_why(old: str, new: str, message: str) -> None:
    spec = tiny_spec(lambda text: text.replace(old, new))
    with pytest.raises(UntrainableRunError) as caught:
        recipe_of(spec, spec.all_runs()[0])
    assert message in str(caught.value)
    assert "release.yaml" in str(caught.value)


def test_every_problem_is_told_at_once() -> None:
    spec = tiny_spec(lambda text: text.replace("type: adamw", "type: muon").replace("    seed: 7\n", ""))
    with pytest.raises(UntrainableRunError) as caught:
        recipe_of(spec, spec.all_runs()[0])
    assert len(caught.value.problems) == 2
